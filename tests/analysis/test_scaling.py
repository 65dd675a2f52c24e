"""Exponents of losses over sizes: exact power laws."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from collapse_sim.analysis.collapse_definitions import definition_verdicts
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.scaling import scaling_by_arm
from collapse_sim.analysis.training_columns import Training
from tests.analysis.curves import results_of

SIZES = (100, 1_000, 10_000)


def power_laws(first: float, last: float, sizes: tuple[int, ...] = SIZES) -> Results:
    """Losses rows^-first at generation 0 and rows^-last at generation 1; four seeds that scatter by a thousandth."""
    rng = np.random.default_rng(0)
    arms = {
        f"{n}/replace": {"loss": np.array([[n**-first, n**-last]] * 4) * np.exp(0.001 * rng.normal(size=(4, 2)))}
        for n in sizes
    }
    measures: Any = {"loss": ("risk",)}
    results = results_of(arms, {"loss": "lower"}, measures=measures)
    training = {f"{n}/replace": Training("updates", (n, n), (10.0, 10.0), (1.0, 1.0)) for n in sizes}
    return replace(results, training=training, settings={arm: {"data": {"use": "replace"}} for arm in arms})


def test_exponents_are_those_of_the_power_laws() -> None:
    own = scaling_by_arm(power_laws(0.5, 0.2), 0.05)["100/replace"]
    assert own is not None
    assert own.contrast.right_mean == pytest.approx(0.5, abs=0.001)
    assert own.contrast.left_mean == pytest.approx(0.2, abs=0.001)
    assert own.sizes == SIZES


@pytest.mark.parametrize(
    ("last", "status"), [(0.2, "seen"), (0.5, "not seen"), (0.6, "not seen"), (0.48, "seen"), (0.499, "undecided")]
)
def test_slower_scaling(last: float, status: str) -> None:
    own = {one.arm: one for one in definition_verdicts(power_laws(0.5, last)) if one.definition == "slower scaling"}
    if status == "undecided":  # within the margin, and perhaps below
        assert {one.status for one in own.values()} <= {"not seen", "seen"}
        return
    assert {one.status for one in own.values()} == {status}
    assert own["100/replace"].note == "exponent of the loss over 100, 1,000, 10,000 real rows"


def test_too_few_sizes_other_settings_and_losses_below_0_measure_nothing() -> None:
    two = power_laws(0.5, 0.2, SIZES[:2])
    assert set(scaling_by_arm(two, 0.05).values()) == {None}
    results = power_laws(0.5, 0.2)
    others = replace(results, settings={**results.settings, "100/replace": {"data": {"use": "accumulate"}}})
    assert set(scaling_by_arm(others, 0.05).values()) == {None}
    assert set(scaling_by_arm(replace(results, training={}), 0.05).values()) == {None}
    values = {arm: {"loss": {k: {0: -1.0, 1: -1.0} for k in (0, 1)}} for arm in results.arms}
    assert set(scaling_by_arm(replace(results, values=values), 0.05).values()) == {None}


def test_points_of_a_grid_over_the_number_of_rows_are_sizes() -> None:
    results = power_laws(0.5, 0.2)
    grid = {arm: {**own, "rows": n} for (arm, own), n in zip(results.settings.items(), SIZES, strict=True)}
    scaling = scaling_by_arm(replace(results, settings=grid), 0.05)["100/replace"]
    assert scaling is not None
    assert scaling.sizes == SIZES


def test_runs_of_other_models_and_equal_sizes_measure_nothing() -> None:
    results = power_laws(0.5, 0.2)
    same: dict[str, dict[str, Any]] = {arm: {"model": {"use": "vae"}} for arm in results.arms}
    assert scaling_by_arm(replace(results, shared=same), 0.05)["100/replace"] is not None
    others = replace(results, shared={**same, "10000/replace": {"model": {"use": "ddpm"}}})
    assert set(scaling_by_arm(others, 0.05).values()) == {None}
    twice = power_laws(0.5, 0.2, (*SIZES, 20_000))
    training = {**twice.training, "20000/replace": twice.training["10000/replace"]}
    assert set(scaling_by_arm(replace(twice, training=training), 0.05).values()) == {None}


def test_seeds_that_the_last_generation_lacks_are_left_out() -> None:
    results = power_laws(0.5, 0.2)
    values = {
        arm: {"loss": {0: of["loss"][0], 1: {s: of["loss"][1][s] for s in (0, 1)}}}
        for arm, of in results.values.items()
    }
    own = scaling_by_arm(replace(results, values=values), 0.05)["100/replace"]
    assert own is not None
    assert own.contrast.n == 2
