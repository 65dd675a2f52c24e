"""The two sides of a claim: their names, their seeds, their figures."""

from __future__ import annotations

import numpy as np
import pytest

from collapse_sim.analysis.operands import MissingFiguresError, compare
from collapse_sim.analysis.results import Results
from collapse_sim.recipe.claims import parse

SEEDS = (7, 3, 5)
SCORES = {
    "a": {0: {7: 1.0, 3: 2.0, 5: 3.0}, 1: {7: 4.0, 3: 5.0, 5: 6.0}},
    "b": {0: {3: 10.0, 7: 20.0}, 1: {5: 30.0, 3: 40.0}},
    "c": {0: {5: 0.5}, 1: {7: 0.25}},
}


def results() -> Results:
    values = {arm: {"m": by_generation} for arm, by_generation in SCORES.items()}
    bounds, theory = {"m": (0.0, None)}, {"a": {"m": [1.5, 4.5]}}
    return Results(
        "x", tuple(SCORES), SEEDS, {"m": "lower"}, 1, "a", values, theory=theory, bounds=bounds, resolutions={"m": 0.1}
    )


def test_seeds_that_both_have_in_the_runs_order() -> None:
    found = compare(parse("a < b"), "m", 0, results())
    assert (found.lefts, found.rights, found.seeds, found.choices) == (("a",), ("b",), (7, 3), 0)
    ((contrast,),) = found.pairs
    np.testing.assert_array_equal(contrast.left, [1.0, 2.0])
    np.testing.assert_array_equal(contrast.right, [20.0, 10.0])
    assert (contrast.scale.bounds, contrast.resolution) == ((0.0, None), 0.1)
    assert compare(parse("a < b"), "m", 1, results()).seeds == (3, 5)


def test_factors_other_generations_and_numbers() -> None:
    found = compare(parse("0.5 * a@0 < 3"), "m", 1, results(), looks=4)
    assert (found.lefts, found.rights, found.seeds) == (("0.5 * a@0",), ("3",), SEEDS)
    ((contrast,),) = found.pairs
    np.testing.assert_array_equal(contrast.left, [0.5, 1.0, 1.5])
    assert (contrast.right, contrast.looks) == (3.0, 4)


def test_theory_is_that_of_the_other_sides_arm_and_generation() -> None:
    for expect, generation, value in (
        ("a = theory within 3 %", 1, 4.5),
        ("a = theory within 3 %", 0, 1.5),
        ("a@0 = theory within 3 %", 1, 1.5),
    ):
        ((contrast,),) = compare(parse(expect), "m", generation, results()).pairs
        assert contrast.right == value
    with pytest.raises(MissingFiguresError, match="theory has no curve of m for b at generation 1"):
        compare(parse("b = theory within 3 %"), "m", 1, results())


def test_choices_are_picked_by_their_means_over_seeds_that_all_have() -> None:
    found = compare(parse("min(a, b) < a@1"), "m", 0, results())
    assert (found.choices, found.left_is, found.right_is) == (2, "min", None)
    assert found.seeds == (7, 3)
    assert found.picked[:2] == ("a", "a@1")
    assert compare(parse("max(a, b) < a@1"), "m", 0, results()).picked[0] == "b"
    assert compare(parse("a < max(b, a@1)"), "m", 0, results()).picked[:2] == ("a", "b")


@pytest.mark.parametrize(
    ("expect", "generation", "said"),
    [
        ("b < c", 0, "b and c have scores for different seeds only: run the missing ones"),
        ("min(b, c) < a", 0, r"the arms of min\(...\) share no seed"),
        ("a < nobody", 0, "the run has no arm 'nobody'"),
        ("a < b@2", 0, "there is no generation 2: the run ends at 1"),
    ],
)
def test_why_there_are_no_figures(expect: str, generation: int, said: str) -> None:
    with pytest.raises(MissingFiguresError, match=said):
        compare(parse(expect), "m", generation, results())


def test_a_metric_that_the_run_has_not() -> None:
    with pytest.raises(MissingFiguresError, match="the run has no metric 'fid'"):
        compare(parse("a < b"), "fid", 0, results())
