"""Specs of combined weights: what is in their keys."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from collapse_sim.core.errors import RecipeError
from collapse_sim.plan.merges import merge_spec
from tests.remedies.chains_of import VAE, digits, experiment_of, gaussian, plans, ran


def test_the_key_is_parents_and_coefficients(sandbox):
    fits = [plan.fit for plan in plans(sandbox, gaussian("init: fresh"))["plain"]]
    merged = merge_spec((fits[1], fits[0]), (0.4, 0.6), "refuse")
    assert merged.description["models"] == [[fits[1].digest, 0.4], [fits[0].digest, 0.6]]
    assert (merged.generation, merged.stacked, merged.fitted, merged.parents) == (1, True, fits[1], (fits[1], fits[0]))
    digests = {
        merge_spec((fits[1], fits[0]), coefficients, infeasible).digest
        for coefficients in ((0.4, 0.6), (0.6, 0.4))
        for infeasible in ("refuse", "project")
    }
    assert len(digests) == 4


def test_networks_have_no_infeasible_weights(sandbox):
    fit = plans(sandbox, digits(VAE, "init: fresh"))["plain"][0].fit
    assert "infeasible" not in merge_spec((fit, fit), (2.0, -1.0), "project").description


TAUGHT = "init: previous, teacher: {generation: ema, rate: 0.3, weights: {output: 0.5}}"


def test_a_moving_average_of_all_earlier_fits_teaches(sandbox):
    """Generation 1 is taught by generation 0, generation 3 by the average of generations 0, 1 and 2."""
    arms, store = ran(sandbox, digits(VAE, TAUGHT).replace("generations: 1", "generations: 3"))
    plan = arms["remedy"]
    fits = [load_file(store.block(generation.fit, 3).file("model.safetensors")) for generation in plan]
    assert plan[1].fit.teacher is plan[0].fit
    teacher = load_file(store.block(plan[3].fit.teacher, 3).file("model.safetensors"))
    for name, tensor in teacher.items():
        torch.testing.assert_close(tensor, 0.7 * (0.7 * fits[0][name] + 0.3 * fits[1][name]) + 0.3 * fits[2][name])
    assert [len(generation.between) for generation in plan] == [0, 1, 1, 0]  # the last one teaches nobody


def test_without_weights_no_average_is_made(sandbox):
    arms = plans(sandbox, digits(VAE, TAUGHT.replace("0.5", "0")))
    assert [p.fit.digest for p in arms["remedy"]] == [
        p.fit.digest for p in plans(sandbox, digits(VAE, "init: previous"))["remedy"]
    ]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (digits(VAE, TAUGHT.replace("previous", "fresh")), r"teacher.generation: .* set the arm's init: previous"),
        (
            gaussian("teacher: {generation: ema, weights: {output: 1}}").replace("use: gaussian}", "use: gmm}"),
            "models do not correspond to each other",
        ),
    ],
)
def test_averages_that_have_no_meaning_are_refused(sandbox, recipe, message):
    with pytest.raises(RecipeError, match=message):
        experiment_of(sandbox, recipe)
