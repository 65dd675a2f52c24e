"""The model in use of a generation: what an arm's merge and guidance put between fit and samples, and who sees it."""

from __future__ import annotations

import pytest

from collapse_sim.core.errors import RecipeError
from tests.remedies.chains_of import SMALL_DDPM, VAE, digits, experiment_of, gaussian, grammar, plans

NEON = "merge: {use: neon, w: 0.5}"


def test_downstream_is_the_merged_model_but_m0_is_what_was_fitted(sandbox):
    """Teachers, origins and M0 of all arms are the raw one; what samples come from, what is scored and what a fit
    begins with are merged, as is a teacher `previous`."""
    recipe = digits(VAE, f"init: previous, {NEON}, teacher: {{generation: 0, weights: {{mean: 1}}}}")
    arms = plans(sandbox, recipe.replace("generations: 1", "generations: 2"))
    plain, remedy = arms["plain"], arms["remedy"]
    raw = plain[0].fit.digest
    assert remedy[0].fit.digest == raw
    assert remedy[0].model.digest != raw
    for k, plan in enumerate(remedy):
        assert plan.samples.model is plan.model
        assert plan.fit.init is (remedy[k - 1].model if k else None)
        assert plan.fit.past[k - 1].model is remedy[k - 1].model if k else True
        assert all(score.model is plan.model for score in plan.scores.values())
        assert all(score.origin.digest == raw for score in plan.scores.values())
        assert (plan.fit.teacher.digest if k else raw) == raw
    taught = plans(sandbox, recipe.replace("generation: 0,", "generation: previous,"))["remedy"]
    assert taught[1].fit.teacher.digest == remedy[0].model.digest


def test_own_samples_have_the_arms_temperature_but_no_second_model(sandbox):
    """A merge's are drawn with the sampler that is used afterwards; SIMS' second model is one of the merged model."""
    both = plans(sandbox, digits(SMALL_DDPM, f"{NEON}, guidance: {{use: temperature, b: 0.5}}"))["remedy"][0]
    assert both.between[0].guidance == both.samples.guidance is not None
    plan = plans(sandbox, digits(SMALL_DDPM, f"{NEON}, guidance: {{use: sims, w: 1}}"))["remedy"][0]
    kinds = [spec.kind for spec in plan.between]
    assert kinds == ["own samples", "own fit", "merge", "own samples", "own fit"]
    assert [spec.guidance for spec in plan.between if spec.kind == "own samples"] == [None, None]
    assert plan.between[3].model is plan.between[2] is plan.between[4].init is plan.samples.model
    assert plan.samples.auxiliary is plan.between[4]
    assert set(plan.samples.parents) >= {plan.between[2], plan.between[4]}


def test_an_own_fit_is_as_long_as_it_says(sandbox):
    """In epochs of its own samples, whatever the arm's protocol; by default as long as the arm's train."""

    def steps(train, axes):
        recipe = digits(VAE, axes).replace("steps: 4", train)
        return plans(sandbox, recipe)["remedy"][1].between[1].train.steps

    assert steps("epochs: 3", "merge: {use: neon, w: 1}") == 3 * 2  # 40 samples in batches of 32
    assert steps("epochs: 3", "merge: {use: neon, w: 1, samples: 96}") == 3 * 3
    assert steps("epochs: 3", "merge: {use: neon, w: 1, train: {steps: 5}}") == 5
    assert steps("steps: 4", "protocol: epochs, merge: {use: neon, w: 1}") == 4
    assert steps("steps: 4", "merge: {use: neon, w: 1, train: {epochs: 2}}") == 4


def test_more_own_samples_than_conditions_are_refused(sandbox):
    recipe = grammar("guidance: {use: sims, w: 1, samples: 61}").replace("layers: 1", "layers: 1, prompt: 3")
    with pytest.raises(RecipeError, match=r"guidance\.samples: 61 is more than the 60 rows whose tokens"):
        experiment_of(sandbox, recipe)
    own = recipe.replace("prompt: 3", "prompt: 3, prompts: own")
    with pytest.raises(RecipeError, match=r"guidance\.samples: 61 is more than the 40 rows whose tokens"):
        experiment_of(sandbox, own)


def test_keys_of_a_plain_arm_are_what_they_were(sandbox):
    plan = plans(sandbox, gaussian("init: fresh"))["plain"][1]
    assert set(plan.samples.description) == {"model", "rows", "shard", "generation"}
    assert plan.between == ()
