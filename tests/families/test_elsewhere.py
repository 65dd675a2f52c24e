"""The place of a model in a recipe without one."""

from __future__ import annotations

import pytest

from collapse_sim.core import registry
from collapse_sim.data.images.digits import Digits
from collapse_sim.data.point_files import PointFiles
from collapse_sim.data.text.grammar_stories import GrammarStories
from collapse_sim.data.toys.gaussian_points import GaussianPoints
from collapse_sim.data.toys.linear_data import LinearData
from collapse_sim.families.base import ClosedForm, ModelFamily
from collapse_sim.families.elsewhere import EnsembleElsewhere, elsewhere


@pytest.mark.parametrize(
    ("data", "together"),
    [
        (GaussianPoints(rows=10), True),
        (LinearData(rows=10), True),
        (PointFiles(path="p.npy"), False),
        (Digits(), False),
        (GrammarStories(), False),
        (None, False),
    ],
)
def test_only_simulated_numbers_are_scored_for_all_seeds_at_once(data, together):
    placeholder = elsewhere(data)
    assert isinstance(placeholder, ModelFamily)
    assert isinstance(placeholder, ClosedForm) == together


def test_no_recipe_can_name_it_and_nothing_builds_it():
    assert not any("elsewhere" in target for target in registry.BUILT_IN["families"].values())
    family = EnsembleElsewhere()
    calls = {
        "build": (None,), "corrupt": ({}, None), "predict": (None, None), "loss": (None, None),
        "distillation": (None, None, None), "sample": (None, None, None), "solve": (None, {}, None, {}, None),
        "build_ensemble": (None, 1),
    }  # fmt: skip
    for name, arguments in calls.items():
        with pytest.raises(AssertionError, match="a recipe without a model builds none"):
            getattr(family, name)(*arguments)
