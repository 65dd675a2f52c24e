"""Weightings and curations that do not fit an arm."""

from __future__ import annotations

import dataclasses

import pytest

from collapse_sim.core.component import Component
from collapse_sim.core.errors import RecipeError
from collapse_sim.plan.data_checks import weighting_misfits
from collapse_sim.plan.experiment import prepare
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


TOY = """
data: {use: gaussian, rows: 40, held_out_rows: 10, fresh_rows: 80}
model: gaussian
generations: 2
samples: SAMPLES
seeds: [0]
arms:
  curated: {data: STRATEGY, curation: RULE}
metrics: [variance_ratio]
"""


def refusal(sandbox, strategy, rule, samples=40):
    text = TOY.replace("STRATEGY", strategy).replace("RULE", rule).replace("SAMPLES", str(samples))
    try:
        prepare(load(sandbox.recipe(text)), sandbox.root)
    except RecipeError as error:
        return str(error)
    return None


@pytest.mark.parametrize("rule", ["random", "verify", "likelihood", "diversity", "transport"])
def test_a_selection_of_all_past_rows_is_refused(sandbox, rule):
    """Under replace a generation offers as many rows as are kept."""
    past = f"{{use: {rule}, pool: past}}"
    assert (
        "recipe.yaml:8: arms.curated.curation: with `pool: past` every generation keeps as many rows as this strategy "
        "offers, so it changes nothing"
    ) in refusal(sandbox, "replace", past)
    assert refusal(sandbox, "replace", past, samples=50) is None
    assert refusal(sandbox, "accumulate", past) is None


def test_what_draws_again_or_weighs_all_past_rows_is_not(sandbox):
    for rule in (
        "{use: luce, pool: past, reward: {kind: linear}}",
        "{use: detector, pool: past}",
        "{use: detector, pool: past, by: weights}",
    ):
        assert refusal(sandbox, "replace", rule) is None


def test_a_curation_of_rows_that_nothing_is_fitted_to_is_refused(sandbox):
    message = refusal(sandbox, "{use: fresh, share: 1.0}", "random")
    assert "no generation of this arm is fitted to generated rows, so it changes nothing; remove it" in message
