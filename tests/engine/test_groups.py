"""Which fits are computed together, and how many."""

from __future__ import annotations

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.engine.groups import group_size


@pytest.mark.parametrize(
    ("setting", "size"),
    [("auto", 1), ("off", 1), ("7", 7), ("1", 1)],
)
def test_the_size_of_a_group(setting, size):
    assert group_size(setting) == size


@pytest.mark.parametrize("setting", ["0", "-3", "on", "", "2.5", "\u0663"])
def test_anything_else_is_refused(setting):
    with pytest.raises(RecipeError, match="allowed: auto, off, or the most fits"):
        group_size(setting)


def test_a_wrong_size_is_refused_before_anything_is_made(sandbox):
    from tests.conftest import TINY

    with pytest.raises(RecipeError, match="--ensemble many"):
        sandbox.run(TINY, ensemble="many")
    assert not (sandbox.root / ".store").exists()
    assert not (sandbox.root / "run").exists()
