"""Where collapse begins: the rule in words, and its verdict on known scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from collapse_sim.analysis.onset import Limit, Place, check_multiple, parse_limit, states, theory_beyond
from collapse_sim.analysis.results import Results
from collapse_sim.core.errors import RecipeError


def results(scores: dict[str, list[list[float]]], better: str | None = "lower", **more: object) -> Results:
    values = {
        arm: {"loss": {k: dict(enumerate(of_seeds)) for k, of_seeds in enumerate(ks)}} for arm, ks in scores.items()
    }
    return Results("toy", tuple(scores), (0, 1, 2), {"loss": better}, 1, next(iter(scores)), values, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "limit", "words"),
    [
        (None, Limit(), "above generation 0 of the same seeds"),
        ("2.5", Limit(2.5, False), "above 2.5"),
        ("2x", Limit(2.0), "above 2 x generation 0 of the same seeds"),
        (" < .9", Limit(0.9, False, "below"), "below 0.9"),
        (">1.5X", Limit(1.5, True, "above"), "above 1.5 x generation 0 of the same seeds"),
        ("-1e-3", Limit(-0.001, False), "above -0.001"),
    ],
)
def test_limits_and_their_words(text: str | None, limit: Limit, words: str) -> None:
    assert parse_limit(text) == limit
    side = limit.side_for(results({"a": [[1.0]]}), "loss")
    assert side is not None
    assert limit.words(side) == words


@pytest.mark.parametrize("text", ["", "much", "2y", "nan", "0x", "-1x", "<", "=3", "1e999"])
def test_other_limits_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"--collapse-at: found .*; allowed: a number \(2\.5\), a multiple of"):
        parse_limit(text)


def test_the_side_is_the_worse_one_unless_stated() -> None:
    assert Limit().side_for(results({"a": [[1.0]]}, "lower"), "loss") == "above"
    assert Limit().side_for(results({"a": [[1.0]]}, "higher"), "loss") == "below"
    assert Limit().side_for(results({"a": [[1.0]]}, None), "loss") is None
    assert Limit(side="below").side_for(results({"a": [[1.0]]}, "lower"), "loss") == "below"


WORSE, SAME, BETTER = [2.0, 2.1, 2.3], [1.0, 1.3, 1.1], [0.5, 0.62, 0.71]
FIRST = [1.0, 1.1, 1.3]


def test_paired_with_generation_0_and_corrected_over_all_places() -> None:
    of = results({"worse": [FIRST, WORSE], "same": [FIRST, SAME], "better": [FIRST, BETTER]})
    places = [Place(arm, k) for arm in of.arms for k in (0, 1)]
    assert states(of, "loss", places, Limit()) == {
        Place("worse", 1): "collapsed",
        Place("same", 1): "unclear",
        Place("better", 1): "not collapsed",
    }
    # A p value that decides at 5 % alone, and not together with two greater ones.
    between = [1.15, 1.3, 1.55]
    p = float(stats.ttest_rel(between, FIRST).pvalue)
    assert 0.05 / 3 < p < 0.05
    three = results({"between": [FIRST, between], "same": [FIRST, SAME], "first": [FIRST, [1.3, 1.0, 1.1]]})
    assert states(three, "loss", [Place("between", 1)], Limit()) == {Place("between", 1): "collapsed"}
    together = states(three, "loss", [Place(arm, 1) for arm in three.arms], Limit())
    assert together[Place("between", 1)] == "unclear"


def test_higher_is_better_turns_it_around() -> None:
    of = results({"a": [FIRST, BETTER]}, "higher")
    assert states(of, "loss", [Place("a", 1)], Limit()) == {Place("a", 1): "collapsed"}


def test_limits_in_the_metrics_unit_and_as_multiples() -> None:
    of = results({"a": [FIRST, WORSE]})
    place = Place("a", 1)
    assert states(of, "loss", [place], Limit(1.5, False)) == {place: "collapsed"}
    assert states(of, "loss", [place], Limit(2.1, False)) == {place: "unclear"}
    assert states(of, "loss", [place], Limit(3.0, False)) == {place: "not collapsed"}
    assert states(of, "loss", [place], Limit(3.0)) == {place: "not collapsed"}
    assert states(of, "loss", [place], Limit(1.5)) == {place: "collapsed"}
    assert states(of, "loss", [place], Limit(1.5, side="below")) == {place: "not collapsed"}
    assert states(of, "loss", [Place("a", 0)], Limit(0.5)) == {Place("a", 0): "collapsed"}


def test_what_cannot_be_tested_has_no_state() -> None:
    of = results({"one": [[1.0], [2.0]], "nan": [FIRST, [1.0, math.nan, 2.0]], "none": [FIRST]})
    assert states(of, "loss", [Place(arm, 1) for arm in of.arms], Limit()) == {}
    assert states(results({"a": [FIRST, WORSE]}, None), "loss", [Place("a", 1)], Limit()) == {}


def test_seeds_that_generation_0_lacks_are_left_out() -> None:
    of = results({"a": [FIRST[:2], [*WORSE[:2], 50.0]]})
    assert states(of, "loss", [Place("a", 1)], Limit()) == states(
        results({"a": [FIRST[:2], WORSE[:2]]}), "loss", [Place("a", 1)], Limit()
    )


def test_theory_beyond_a_limit() -> None:
    of = results({"a": [FIRST, WORSE]}, theory={"a": {"loss": [1.0, 2.0]}})
    assert theory_beyond(of, "loss", Place("a", 1), Limit()) is None
    assert theory_beyond(of, "loss", Place("a", 1), Limit(2.0)) == 0.0
    assert theory_beyond(of, "loss", Place("a", 1), Limit(0.5, False)) == pytest.approx(np.log(4))
    assert theory_beyond(of, "loss", Place("a", 1), Limit(-0.5, False)) == 2.5
    assert theory_beyond(results({"a": [FIRST]}), "loss", Place("a", 0), Limit(2.0)) is None


def test_a_multiple_of_what_is_not_above_0_is_refused() -> None:
    """Twice a log loss of -1 is -2: everything would be above it."""
    of = results({"a": [[-1.0, -1.1, -0.9], [-1.0, -1.1, -0.9]], "b": [FIRST, SAME]})
    places = [Place("a", 1), Place("b", 1)]
    with pytest.raises(RecipeError, match=r"--collapse-at: 2x: loss of a at generation 0 is -1.000, and only"):
        check_multiple(of, ["loss"], places, Limit(2.0))
    check_multiple(of, ["loss"], places[1:], Limit(2.0))
    check_multiple(of, ["loss"], places, Limit())
    check_multiple(of, ["loss"], places, Limit(2.0, relative=False))
