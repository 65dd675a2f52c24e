from __future__ import annotations

import json

import pytest

from collapse_sim.plan.curation_specs import CurationSpec, candidates_for, keeps_all
from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.specs import SampleSpec, sample_spec
from collapse_sim.recipe.loader import load
from collapse_sim.remedies.luce import Luce
from collapse_sim.remedies.random_choice import RandomChoice

TOY = """
data: {{use: gaussian, rows: 40, fresh_rows: 40, held_out_rows: 10}}
model: gaussian
generations: 3
samples: 30
seeds: 2
arms: {arms}
metrics: [variance_ratio]
"""


@pytest.fixture
def planned(tmp_path):
    """{arm: its generations} of a recipe with these arms."""

    def plan(**arms):
        path = tmp_path / "r.yaml"
        path.write_text(TOY.format(arms=json.dumps(arms)))
        return {plan.name: plan.generations for plan in prepare(load(path), tmp_path).arm_plans}

    return plan


def test_candidates_are_the_scored_samples_and_further_draws_the_last_of_which_may_be_shorter(planned):
    generations = planned(a={"data": "replace", "curation": {"use": "random", "keep": 0.4}})["a"]
    spec = generations[0].curation
    assert spec.candidates == 75
    assert spec.rows == 30
    assert [(draw.draw, draw.rows) for draw in spec.draws] == [(0, 30), (1, 30), (2, 15)]
    assert spec.draws[0] is generations[0].samples
    assert len({draw.digest for draw in spec.draws}) == 3
    assert generations[0].generated() == spec.draws
    kinds = [made.kind for made in generations[0].specs()]
    assert kinds == ["fit", "samples", "samples", "samples", "curation", "scores"]


def test_a_draw_is_in_the_key_only_if_it_is_a_further_one(planned):
    (first, *_) = planned(a={"data": "replace"})["a"]
    assert sample_spec(first.fit, 30, 1000).digest == first.samples.digest
    assert "draw" not in first.samples.description
    assert sample_spec(first.fit, 30, 1000, draw=1).description["draw"] == 1


def test_only_generations_that_a_later_fit_takes_rows_of_are_curated(planned):
    rule = {"use": "random"}
    arms = planned(
        replace={"data": "replace", "curation": rule},
        fresh={"data": {"use": "fresh", "share": 0.25}, "curation": rule},
        past={"data": "accumulate", "curation": {**rule, "pool": "past"}},
    )
    made = {arm: [generation.curation is not None for generation in plan] for arm, plan in arms.items()}
    assert made["replace"] == made["fresh"] == made["past"] == [True, True, True, False]


def test_a_fit_s_key_has_the_curation_in_the_place_of_its_sources(planned):
    rule = {"use": "random"}
    arms = planned(
        plain={"data": "accumulate"},
        each={"data": "accumulate", "curation": rule},
        past={"data": "accumulate", "curation": {**rule, "pool": "past"}},
    )
    plain, each, past = (arms[name][2].fit for name in ("plain", "each", "past"))
    samples = [arms["plain"][k].samples.digest for k in (0, 1)]
    assert [digest for digest, *_ in plain.description["sources"]][1:] == samples
    curations = [arms["each"][k].curation.digest for k in (0, 1)]
    assert [digest for digest, *_ in each.description["sources"]][1:] == curations
    assert past.description["sources"] == arms["past"][1].curation.digest == past.curation.digest
    assert past.description["budget"] == past.plan.rows == 40
    assert past.curation.offer.plan.budget is None
    assert past.curation.candidates == 40 + 2 * 30
    assert past.curation in past.parents
    assert all(isinstance(spec, CurationSpec) for spec in each.sources[1:])
    assert all(isinstance(spec, SampleSpec) for spec in past.sources[1:])
    assert each.plan == plain.plan  # the same rows of the same generations, but chosen


def test_a_strategy_s_own_budget_says_how_many_of_the_past_are_kept(planned):
    strategy = {"use": "accumulate-subsample", "budget": 25}
    plan = planned(a={"data": strategy, "curation": {"use": "random", "pool": "past"}})["a"]
    assert [generation.fit.plan.rows for generation in plan] == [40, 25, 25, 25]
    assert plan[0].curation.rows == 25


def test_settings_of_a_curation_change_its_key_and_nothing_before_it(planned):
    arms = planned(**{str(k): {"data": "replace", "curation": {"use": "random", "keep": k}} for k in (0.5, 0.4)})
    first, second = (arms[name][0] for name in ("0.5", "0.4"))
    assert first.fit.digest == second.fit.digest
    assert first.samples.digest == second.samples.digest
    assert first.curation.digest != second.curation.digest


def test_only_a_curation_of_generations_can_keep_everything():
    assert keeps_all(None)
    assert keeps_all(RandomChoice(keep=1.0))
    assert keeps_all(Luce(k=1, reward={"kind": "linear"}))
    assert not keeps_all(Luce(k=1, reward={"kind": "linear"}, pool="past"))
    assert not keeps_all(RandomChoice())


@pytest.mark.parametrize("number", [9, 10.0, True, None])
def test_the_number_of_candidates_must_be_enough(number):
    class Wrong(RandomChoice):
        def candidates(self, rows):
            return number

    with pytest.raises(ValueError, match="candidates; needed: at least the 10 rows that are kept"):
        candidates_for(Wrong(), 10)
