"""What an experiment costs: the sum over the artefacts that it lacks, each at the rate of its kind."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from collapse_sim.plan.costs import Rate, fit_units, kind_of_spec, predict, seconds, units_of
from collapse_sim.plan.experiment import Experiment, prepare
from collapse_sim.plan.specs import FitSpec
from collapse_sim.recipe.loader import load
from collapse_sim.store.spec import Spec
from tests.conftest import TINY, Sandbox, changed

CLOSED = """
data: {use: gaussian, rows: 20}
model: gaussian
generations: 1
seeds: 2500
arms: {replace: {data: replace}}
metrics: [variance_ratio]
"""
RATES = {"data": Rate(0.001, 0.1), "samples": Rate(0.01, 0.2), "scores": Rate(3.0, 0.3)}
UNTAUGHT, TAUGHT = Rate(1.0, 0.5, 10.0), Rate(2.0, 0.5, 10.0)
DATA_S = 0.1 + 0.001 * (1437 + 50)  # all real rows, of which 40 are for validation
OWN_S = 0.2 + 0.01 * 150 + 0.3 + 3.0  # samples and a score of one seed
FIT_S, TAUGHT_S = 0.5 + 20 + 4 * 10.0, 0.5 + 40 + 4 * 10.0  # 20 updates, evaluated after every 5


def rate_of(spec: Spec) -> Rate:
    if isinstance(spec, FitSpec):
        return TAUGHT if spec.teacher else UNTAUGHT
    return RATES[spec.kind]


@pytest.fixture
def experiment(sandbox: Sandbox) -> Experiment:
    return prepare(load(sandbox.recipe(TINY)), sandbox.root)


def all_of(experiment: Experiment) -> Callable[[Spec], int]:
    return lambda spec: len(experiment.recipe.seeds) if spec.seeded else 1


def test_the_sum_over_arms_generations_and_seeds(experiment: Experiment) -> None:
    rates = {kind_of_spec(spec): rate_of(spec) for spec in experiment.specs()}
    assert len(rates) == 5, "data, two kinds of fits, samples, scores"
    found = predict(experiment, all_of(experiment), rates)
    assert found.shared_s == pytest.approx(DATA_S)
    assert list(found.cells_s) == ["replace", "accumulate+distill"]
    assert found.cells_s["replace"] == pytest.approx([2 * (FIT_S + OWN_S)] * 3)
    assert found.cells_s["accumulate+distill"] == pytest.approx([0, *[2 * (TAUGHT_S + OWN_S)] * 2])
    assert found.total_s == pytest.approx(DATA_S + 6 * (FIT_S + OWN_S) + 4 * (TAUGHT_S + OWN_S))
    assert found.unknown == {}


def test_what_is_stored_is_taken_off(experiment: Experiment) -> None:
    """All of generation 0, the data, and one seed of generation 1's fits."""
    rates = {kind_of_spec(spec): rate_of(spec) for spec in experiment.specs()}

    def missing(spec: Spec) -> int:
        if spec.generation <= 0:
            return 0
        return 1 if spec.generation == 1 and isinstance(spec, FitSpec) else 2

    found = predict(experiment, missing, rates)
    assert found.shared_s == 0
    assert found.cells_s["replace"] == pytest.approx([0, FIT_S + 2 * OWN_S, 2 * (FIT_S + OWN_S)])


def test_kinds_without_a_rate_are_counted_and_not_in_the_sum(experiment: Experiment) -> None:
    rates = {kind_of_spec(spec): rate_of(spec) for spec in experiment.specs() if spec.kind != "scores"}
    found = predict(experiment, all_of(experiment), rates)
    assert found.unknown == {"scores": 2 * 5}
    assert found.cells_s["replace"][0] == pytest.approx(2 * (FIT_S + OWN_S - 3.3))


@pytest.mark.parametrize(
    ("setting", "same"),
    [
        ("train.learning_rate=0.5", True),
        ("train.steps=21", True),
        ("train.evaluate=never", True),
        ("train.batch_size=33", False),
        ("train.ema=0.9", False),
        ("train.clip_norm=1.0", False),
        ("model.hidden=17", False),
    ],
)
def test_fits_of_one_kind_cost_the_same_per_update(
    experiment: Experiment, sandbox: Sandbox, setting: str, same: bool
) -> None:
    changes = [setting] if setting != "train.evaluate=never" else [setting, "train.keep=last"]
    other = prepare(load(sandbox.recipe(TINY), overrides=changes), sandbox.root)
    mine, others = (e.arm_plans[0].generations[1].fit for e in (experiment, other))
    assert (kind_of_spec(mine) == kind_of_spec(others)) == same


def test_seeds_that_are_made_in_one_computation_are_one_artefact(sandbox: Sandbox) -> None:
    """At most 1,000 of them."""
    experiment = prepare(load(sandbox.recipe(CLOSED)), sandbox.root)
    fit = experiment.arm_plans[0].generations[0].fit
    assert units_of(fit) == 20
    assert seconds(fit, 2500, Rate(0.001, 7.0)) == pytest.approx(3 * 7 + 2500 * 20 * 0.001)


def test_the_updates_of_fits_grow_with_an_accumulating_chain_at_equal_epochs(sandbox: Sandbox) -> None:
    recipe = sandbox.recipe(changed(TINY, ("steps: 20", "steps: 40"), ("samples: 150", "samples: 200")))
    equal, growing = (
        fit_units(prepare(load(recipe, overrides=[f"protocol={name}"]), sandbox.root)) for name in ("updates", "epochs")
    )
    assert equal == {"replace": (40, 40, 40), "accumulate+distill": (40, 40, 40)}
    assert growing["replace"] == (40, 40, 40)
    batches = [math.ceil((k + 1) * 200 / 32) for k in range(3)]  # of an epoch
    assert growing["accumulate+distill"] == tuple(round(40 * n / batches[0]) for n in batches)
