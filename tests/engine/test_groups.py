"""Which fits are computed together, and how many."""

from __future__ import annotations

import pytest
import torch

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.machine import Device
from collapse_sim.engine.groups import AUTO_SIZE, group_size


@pytest.mark.parametrize(
    ("setting", "device", "size"),
    [
        ("auto", "cpu", 1),
        ("auto", "cuda", AUTO_SIZE),
        ("off", "cuda", 1),
        ("7", "cpu", 7),
        ("1", "cuda", 1),
    ],
)
def test_the_size_of_a_group(setting, device, size):
    assert group_size(setting, Device(torch.device(device))) == size


@pytest.mark.parametrize("setting", ["0", "-3", "on", "", "2.5", "\u0663"])
def test_anything_else_is_refused(setting):
    with pytest.raises(RecipeError, match="allowed: auto, off, or the most fits"):
        group_size(setting, Device(torch.device("cpu")))


def test_a_wrong_size_is_refused_before_anything_is_made(sandbox):
    from tests.conftest import TINY

    with pytest.raises(RecipeError, match="--ensemble many"):
        sandbox.run(TINY, ensemble="many")
    assert not (sandbox.root / ".store").exists()
    assert not (sandbox.root / "run").exists()
