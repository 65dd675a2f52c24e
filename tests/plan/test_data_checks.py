"""Weightings that do not fit an arm."""

from __future__ import annotations

import dataclasses

from collapse_sim.core.component import Component
from collapse_sim.plan.data_checks import weighting_misfits
from collapse_sim.recipe.loader import load
from tests.conftest import SMALL


class Aimless(Component):
    """It weighs neither rows nor tokens."""

    def check(self, data, info, family):
        pass

    def changes(self, plan):
        return True

    def check_plans(self, plans):
        raise ValueError("it has no meaning here")


def test_a_weighting_that_weighs_nothing_and_one_without_a_meaning(sandbox):
    recipe = load(sandbox.recipe(SMALL))
    arm = dataclasses.replace(recipe.arms[0], weighting=Aimless())
    meaning, members = weighting_misfits(recipe, arm, [])
    assert meaning.endswith("arms.replace.weighting: it has no meaning here")
    assert members.endswith("Aimless lacks `of_rows` (of rows) or `factors` (of tokens)")
    assert not list(weighting_misfits(recipe, recipe.arms[0], []))
