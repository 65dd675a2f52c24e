"""Every branch of `decide`, on hand-made scores; intervals against scipy.stats."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from collapse_sim.analysis.power import seeds_needed
from collapse_sim.analysis.results import Better, RecordedClaim, Results
from collapse_sim.analysis.verdicts import Verdict, decide, decide_all

# 95 % of Student's t with 2 degrees of freedom is 4.30: differences -1.1, -1.0, -0.9 give -1 +- 0.248
LOW, MID, HIGH = [1.0, 2.0, 3.0], [2.1, 3.0, 3.9], [2.0, 1.9, 3.2]


def results(scores: Mapping[str, Sequence[Sequence[float]]], **extra: Any) -> Results:
    """Results with one metric, `loss`; scores[arm][generation] has one value a seed, None where it is missing."""
    seeds = tuple(range(max(len(values) for ks in scores.values() for values in ks)))
    metrics: Mapping[str, Better] = {"loss": "lower"}
    values = {
        arm: {"loss": {k: {s: v for s, v in enumerate(vs) if v is not None} for k, vs in enumerate(ks) if vs}}
        for arm, ks in scores.items()
    }
    last = max(len(ks) for ks in scores.values()) - 1
    return Results("toy", tuple(scores), seeds, metrics, last, next(iter(scores)), values, **extra)


def verdict(expect: str, found: Results, generation: Any = "last", metric: str = "loss") -> Verdict:
    return decide(RecordedClaim("it is so", metric, generation, expect), found)


@pytest.mark.parametrize(
    ("expect", "status"),
    [
        ("low < mid", "holds"),
        ("mid > low", "holds"),
        ("low > mid", "fails"),
        ("mid < low", "fails"),
        ("low < high", "undecided"),
        ("high > low", "undecided"),
    ],
)
def test_directional(expect: str, status: str) -> None:
    found = verdict(expect, results({"low": [LOW], "mid": [MID], "high": [HIGH]}))
    assert found.status == status
    left, right = ({"low": LOW, "mid": MID, "high": HIGH}[name] for name in expect.replace(">", "<").split(" < "))
    expected = stats.ttest_rel(left, right).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    p = stats.ttest_rel(left, right).pvalue
    assert found.p == pytest.approx(p)
    assert (found.n, found.left, found.right) == (3, pytest.approx(sum(left) / 3), pytest.approx(sum(right) / 3))
    assert found.definition == "loss at generation 0; t test of paired differences over 3 seeds; 5 % level"


def test_the_reason_has_the_figures() -> None:
    found = verdict("low < mid", results({"low": [LOW], "mid": [MID]}))
    assert found.reason == "low - mid = -1.000, interval -1.248 to -0.7516: below 0 (p = 0.0033)"


@pytest.mark.parametrize(("expect", "status"), [("a < b", "holds"), ("a > b", "fails"), ("a < c", "undecided")])
def test_zero_scatter_is_certain_for_three_seeds_only(expect: str, status: str) -> None:
    three = {"a": [[1.0, 2.0, 4.0]], "b": [[1.5, 2.5, 4.5]], "c": [[1.0, 2.0, 4.0]]}
    found = verdict(expect, results(three))
    assert found.status == status
    assert ("equal for every seed" in found.reason) == ("c" in expect)
    two = verdict(expect, results({arm: [values[:2] for values in ks] for arm, ks in three.items()}))
    assert two.status == "undecided"
    assert two.reason.endswith("2 seeds without scatter are not conclusive: at least 3 are needed")


def test_zero_scatter_is_no_certainty_below_the_resolution() -> None:
    """Three seeds that all differ by one row of 1,000: the metric cannot tell less apart."""
    scores = {"a": [[0.501, 0.502, 0.504]], "b": [[0.500, 0.501, 0.503]], "c": [[0.51, 0.511, 0.513]]}
    coarse = results(scores, resolutions={"loss": 0.001})
    assert verdict("a > b", coarse).status == "undecided"
    assert "less than the metric can resolve" in verdict("a > b", coarse).reason
    assert verdict("c > b", coarse).status == "holds"
    assert verdict("a > b", results(scores)).status == "holds"
    rounding = results({"a": [[1.0, 2.0, 3.0]], "b": [[1.0 + 1e-8, 2.0 + 1e-8, 3.0 + 1e-8]]})
    assert verdict("a < b", rounding).status == "undecided"


def test_factor_number_and_other_generation() -> None:
    found = results({"a": [[1.0, 1.1, 0.9], [2.0, 2.2, 2.1]], "b": [[1.0, 1.1, 0.9], [4.0, 4.5, 4.1]]})
    assert verdict("a < 0.6 * b", found).status == "holds"
    assert verdict("a < 0.4 * b", found).status == "fails"
    assert verdict("a < 0.5 * b", found).status == "undecided"
    assert verdict("a > a@0", found).status == "holds"
    assert verdict("a > 2 * a@0", found, generation=0).status == "fails"
    above = verdict("1.5 < a", found)
    expected = stats.ttest_1samp([2.0, 2.2, 2.1], 0).confidence_interval(0.95)
    assert above.status == "holds"
    assert (above.low, above.high) == (pytest.approx(1.5 - expected.high), pytest.approx(1.5 - expected.low))
    assert "difference to a fixed value, t test over 3 seeds" in above.definition
    assert verdict("a > 2.1", found).status == "undecided"


def test_one_seed_decides_nothing_but_shows_the_difference() -> None:
    found = verdict("a < b", results({"a": [[1.0]], "b": [[2.0]]}))
    assert (found.status, found.difference, found.low, found.n) == ("undecided", -1.0, None, 1)
    assert found.reason == "a - b = -1.000; one seed gives no interval: add seeds"
    one = results({"a": [[1.0]]}, theory={"a": {"loss": [1.0]}})
    assert verdict("a = theory within 3 %", one).status == "undecided"


def test_only_seeds_of_both_sides_are_used() -> None:
    nan = None
    found = verdict("a < b", results({"a": [[1.0, 2.0, 3.0, 99.0]], "b": [[2.1, 3.0, 3.9, nan]]}))
    assert (found.status, found.n, found.left) == ("holds", 3, pytest.approx(2.0))


@pytest.mark.parametrize(
    ("differences", "status", "words"),
    [
        ([0.05, 0.0, -0.05], "holds", "inside -0.2000 to 0.2000 (2 % of b)"),
        ([0.55, 0.5, 0.45], "fails", "outside -0.2000 to 0.2000"),
        ([-0.55, -0.5, -0.45], "fails", "outside -0.2000 to 0.2000"),
        ([0.25, 0.2, 0.15], "undecided", "do not decide whether it is inside"),
        ([0.9, 0.0, -0.9], "undecided", "do not decide whether it is inside"),
    ],
)
def test_equivalence(differences: list[float], status: str, words: str) -> None:
    b = [9.9, 10.0, 10.1]
    a = [value + difference for value, difference in zip(b, differences, strict=True)]
    found = verdict("a = b within 2 %", results({"a": [a], "b": [b]}))
    assert (found.status, words in found.reason) == (status, True), found.reason
    assert found.margin == pytest.approx(0.2)


def test_equivalence_to_a_number_and_to_theory() -> None:
    found = results({"a": [[1.0, 1.001, 0.999]]}, theory={"a": {"loss": [1.2]}})
    assert verdict("a = 1 within 1 %", found).status == "holds"
    assert verdict("1.2 = a within 1 %", found).status == "fails"
    assert verdict("a = theory within 30 %", found).status == "holds"
    assert verdict("a = theory within 1 %", found).status == "fails"
    assert verdict("a < 0.9 * theory", found).status == "holds"


@pytest.mark.parametrize(("theory", "status"), [(0.3, "holds"), (0.3 * (1 + 1e-15), "holds"), (0.4, "fails")])
def test_theory_without_scatter(theory: float, status: str) -> None:
    three = results({"a": [[0.3, 0.3, 0.3]]}, theory={"a": {"loss": [theory]}})
    assert verdict("a = theory within 3 %", three).status == status
    two = results({"a": [[0.3, 0.3]]}, theory={"a": {"loss": [theory]}})
    assert verdict("a = theory within 3 %", two).status == "undecided"


def test_theory_of_a_positive_metric_is_tested_on_a_logarithmic_scale() -> None:
    values = [0.95, 1.02, 1.07, 0.99, 0.93, 1.04, 0.97, 1.05]
    found = verdict(
        "a = theory within 10 %",
        results({"a": [values]}, theory={"a": {"loss": [1.0]}}, bounds={"loss": (0.0, None)}),
    )
    relative = stats.sem(values) / stats.tmean(values)
    reach = stats.t.ppf(0.975, 7) * relative
    mean = float(stats.tmean(values))
    assert (found.low, found.high) == (
        pytest.approx(mean * math.exp(-reach) - 1),
        pytest.approx(mean * math.exp(reach) - 1),
    )
    above = stats.t.sf((math.log(mean) - math.log(0.9)) / relative, 7)
    below = stats.t.cdf((math.log(mean) - math.log(1.1)) / relative, 7)
    assert (found.status, found.p) == ("holds", pytest.approx(2 * max(above, below)))


def test_a_mean_that_few_seeds_carry_is_not_judged() -> None:
    """The end of a Gaussian chain of N = 10: nearly all of 1,000 seeds are far below the expected variance."""
    rng = np.random.default_rng(3)
    values = np.cumprod(rng.chisquare(9, (51, 1000)) / 10, axis=0)[-1]
    assert np.median(values) < 0.1 * 0.9**51
    found = verdict(
        "a = theory within 10 %",
        results({"a": [list(values)]}, theory={"a": {"loss": [0.9**51]}}, bounds={"loss": (0.0, None)}),
    )
    assert found.status == "undecided"
    assert "so skewed that a few dominate the mean" in found.reason


def test_near_theory_yet_surely_not_equal_is_said() -> None:
    rng = np.random.default_rng(0)
    values = [list(1.02 + 0.01 * rng.standard_normal(50)) for _ in range(3)]
    found = verdict("a = theory within 5 %", results({"a": values}, theory={"a": {"loss": [1.0] * 3}}), "every")
    assert found.status == "holds"
    assert found.caveats[0].startswith("theory itself is ruled out at generation ")
    other = results({"a": [[v - 0.02 for v in vs] for vs in values]}, theory={"a": {"loss": [1.0] * 3}})
    assert not verdict("a = theory within 5 %", other, "every").caveats


def test_every_generation_names_the_worst() -> None:
    found = results(
        {"a": [LOW, LOW, LOW, LOW], "b": [LOW, MID, [9.0, 9.5, 10.0], [2.0, 3.1, 4.1]]},
    )
    good = verdict("a < b", found, "every")
    assert (good.status, good.generation) == ("holds", 1)
    assert good.reason.startswith("holds at 3 of the 3 generations 1 to 3; worst at 1: a - b = -1.000")
    bad = verdict("b < 1.5 * a", found, "every")
    assert (bad.status, bad.generation) == ("fails", 2)
    assert "fails at 1 of the 3 generations" in bad.reason


def test_every_fails_before_it_is_undecided() -> None:
    found = results({"a": [LOW, HIGH, MID, []], "b": [LOW, LOW, LOW, LOW]})
    assert verdict("a < b", found, "every").status == "fails"
    assert verdict("a < b", found, "every").generation == 2
    waiting = verdict("0.1 * b < a", results({"a": [LOW, [1.0], MID], "b": [LOW, LOW, LOW]}), "every")
    assert (waiting.status, waiting.generation) == ("undecided", 1)
    assert "one seed gives no interval" in waiting.reason


def test_last_and_every_end_where_both_sides_have_come_to() -> None:
    """An arm that was extended, or has fallen behind, leaves a claim at the last generation that both have."""
    found = results({"a": [LOW, LOW, LOW, MID], "b": [LOW, MID, MID], "c": [LOW, LOW, LOW, LOW], "new": [[]]})
    last = verdict("a < b", found)
    assert (last.status, last.generation) == ("holds", 2)
    assert last.caveats == (
        "generation 2 is the last that both sides have (a has reached 3, b has reached 2); the recipe goes to 3",
    )
    every = verdict("a < b", found, "every")
    assert (every.status, every.caveats) == ("holds", last.caveats)
    assert every.reason.startswith("holds at 2 of the 2 generations 1 to 2")
    both = verdict("c < a", found)
    assert (both.status, both.generation, both.caveats) == ("holds", 3, ())
    one = verdict("b > b@0", found)
    said = "generation 2 is the last that both sides have; the recipe goes to 3"
    assert (one.generation, one.caveats) == (2, (said,))
    assert "b has no loss at generation 3 yet" in verdict("a < b", found, 3).reason
    for generation in ("last", "every"):
        assert "new has no loss at generation" in verdict("new < a", found, generation).reason


def test_claims_that_touch_a_diverged_fit_are_undecided_and_say_so() -> None:
    nan = math.nan
    found = results(
        {"a": [LOW, LOW], "b": [LOW, [2.1, nan, nan]], "c": [LOW, MID]}, diverged={"b": {1: 1, 2: 1}, "c": {0: 2}}
    )
    touched = verdict("a < b", found)
    assert touched.status == "undecided"
    assert touched.reason.endswith("not every score is finite; b: seeds 1, 2 diverged at generation 1")
    picked = verdict("min(a, b) < c", found)
    assert picked.status == "undecided"
    assert picked.reason.endswith("not every score is finite; b: seeds 1, 2 diverged at generation 1")
    assert verdict("a < c", found).status == "holds"
    assert "finite" not in verdict("a < 3 * b@0", found).reason
    alone = verdict("a < b", results({"a": [[1.0]], "b": [[nan]]}, diverged={"b": {0: 0}}))
    assert "b: seed 0 diverged at generation 0" in alone.reason


def test_every_begins_at_generation_zero_for_theory_only() -> None:
    found = results({"a": [[5.0, 5.1], [1.0, 1.1]]}, theory={"a": {"loss": [1.05, 1.05]}})
    assert verdict("a < 2", found, "every").status == "holds"
    theory = verdict("a = theory within 3 %", found, "every")
    assert (theory.status, theory.generation) == ("fails", 0)
    alone = verdict("a < 2", results({"a": [[1.0, 1.1]]}), "every")
    assert (alone.status, alone.reason) == ("undecided", "the run ends at generation 0, which all arms share")


def test_min_and_max_account_for_the_choice() -> None:
    found = results({"a": [[1.0, 2.0, 3.3]], "b": [[1.2, 2.1, 2.9]], "c": [[2.1, 3.0, 4.0]]})
    least = verdict("min(a, b) < c", found)
    assert least.reason.startswith("b - c = ")
    single = {arm: verdict(f"{arm} < c", found).p for arm in "ab"}
    assert least.p == pytest.approx(2 * min(single.values()))  # one of two is enough
    assert least.corrections == ("the choice from 2 arms",)
    assert least.definition.endswith("5 % level over the choice from 2 arms")
    assert verdict("max(a, b) < c", found).p == pytest.approx(max(single.values()))  # both are needed
    assert verdict("c > min(a, b)", found).p == pytest.approx(least.p)
    greatest = verdict("0.5 * max(a, c@0) < b", found)
    assert greatest.reason.startswith("0.5 * c@0 - b = ")
    assert not verdict("a < c", found).corrections


def test_claims_against_one_arm_are_corrected_together() -> None:
    """p values of .04, .05 and .97: each would hold alone, none does as one of three."""
    arms = {"base": [[0.0] * 6], "x": [[1.0, 2.2, 0.1, 1.4, -0.2, 1.9]], "y": [[0.9, 2.3, 0.2, 1.5, -0.2, 1.2]]}
    arms["z"] = [[0.3, -0.4, 0.1, -0.2, 0.25, -0.1]]
    found = results(arms)
    claims = [
        RecordedClaim("", "loss", "last", expect)
        for expect in ("x > base", "base < y", "z > base", "x > z", "x = y within 9 %")
    ]
    alone = [decide(claim, found) for claim in claims]
    together = decide_all(claims, found)
    raw = [stats.ttest_1samp(arms[arm][0], 0).pvalue for arm in "xyz"]
    assert [verdict.p for verdict in alone[:3]] == pytest.approx(raw)
    assert [verdict.p for verdict in together[:3]] == pytest.approx([3 * raw[0], max(3 * raw[0], 2 * raw[1]), raw[2]])
    assert [verdict.status for verdict in alone[:2]] == ["holds", "holds"]
    assert [verdict.status for verdict in together[:2]] == ["undecided", "undecided"]
    assert together[0].corrections == ("3 claims against base (Holm)",)
    assert "too close to 0 given everything that is tested together" in together[0].reason
    assert together[3:] == alone[3:]


def test_seeds_that_a_recipe_was_tuned_on_do_not_confirm_it() -> None:
    scores = {"a": [[1.0, 1.1, 0.9, 5.0, 5.1, 4.9]], "b": [[2.0, 2.2, 1.9, 4.0, 4.2, 3.9]]}
    seen = verdict("a < b", results(scores, tuned_on=(0, 1, 2)))
    assert (seen.status, seen.seeds, seen.kind) == ("fails", (3, 4, 5), "confirmatory")
    assert "over seeds 3, 4, 5 (confirmatory)" in seen.definition
    only = verdict("a < b", results({arm: [ks[0][:3]] for arm, ks in scores.items()}, tuned_on=(0, 1, 2)))
    assert (only.status, only.seeds, only.kind) == ("holds", (0, 1, 2), "exploratory")
    assert only.caveats == ("exploratory: on seeds that the recipe was tuned on; other seeds can confirm it",)
    silent = verdict("a < b", results(scores))
    assert (silent.seeds, silent.kind) == ((0, 1, 2, 3, 4, 5), None)
    own = decide(RecordedClaim("", "loss", "last", "a < b", (1, 2, 9)), results(scores, tuned_on=(0, 1, 2)))
    assert (own.seeds, own.kind) == ((1, 2), "exploratory")


def test_min_compares_over_seeds_that_all_have() -> None:
    missing = None
    found = results({"a": [[5.0, 5.0, 0.0]], "b": [[4.0, 4.1, missing]], "c": [[9.0, 9.0, 9.0]]})
    assert verdict("min(a, b) < c", found).reason.startswith("b - c")  # a's mean over all of its seeds is below b's


@pytest.mark.parametrize(
    ("expect", "metric", "generation", "why"),
    [
        ("a < nobody", "loss", "last", "the run has no arm 'nobody'"),
        ("a < b", "fid", "last", "the run has no metric 'fid'"),
        ("a < b", "loss", 7, "there is no generation 7: the run ends at 1"),
        ("a < a@7", "loss", "last", "there is no generation 7"),
        ("a < b", "loss", 1, "b has no loss at generation 1 yet: continue the run"),
        ("a = theory within 3 %", "loss", 0, "theory has no curve of loss for a at generation 0"),
        ("a < c", "loss", 0, "a and c have scores for different seeds only"),
        ("min(a, c) < b", "loss", 0, "the arms of min(...) share no seed"),
        ("a < < b", "loss", 0, "expected an arm here"),
    ],
)
def test_what_is_missing_leaves_it_undecided(expect: str, metric: str, generation: Any, why: str) -> None:
    missing = None
    scores = {"a": [[1.0, 1.1, missing], [1.0]], "b": [[2.0, 2.1, 2.2]], "c": [[missing, missing, 3.0]]}
    found = verdict(expect, results(scores), generation, metric)
    assert (found.status, why in found.reason) == ("undecided", True), found.reason


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_not_finite_leave_it_undecided(value: float) -> None:
    found = verdict("a < b", results({"a": [[1.0, 1.0]], "b": [[value, 2.0]]}))
    assert (found.status, found.low) == ("undecided", None)
    assert "not every score is finite" in found.reason


def test_what_is_undecided_says_how_many_seeds_would_decide_it() -> None:
    """At the level that the corrections leave; more than 1,000 and fewer than three seeds have no number."""
    left, right = np.array([1.0, 2.0, 3.0, 2.5]), np.array([1.4, 1.9, 3.9, 3.0])
    alone = verdict("a < b", results({"a": [list(left)], "b": [list(right)]}))
    expected = seeds_needed([left - right])
    assert expected is not None
    assert (alone.status, alone.seeds_needed) == ("undecided", int(expected))
    assert alone.caveats[-1] == f"seeds that would decide it, if the difference stays as it is: {expected:g}"
    claims = [RecordedClaim("x", "loss", "last", f"{arm} < b") for arm in ("a", "c")]
    family = decide_all(claims, results({"b": [list(right)], "a": [list(left)], "c": [list(left - 0.01)]}))
    assert family[1].seeds_needed == seeds_needed([left - 0.01 - right], 0.025)
    within = verdict("a = b within 20 %", results({"a": [list(left)], "b": [list(right)]}))
    assert within.seeds_needed == seeds_needed([left - 0.8 * right, left - 1.2 * right])
    even = verdict("a < b", results({"a": [[1.0, 2.0, 3.0]], "b": [[2.0, 3.0, 1.001]]}))
    assert (even.seeds_needed, even.caveats[-1].rpartition(": ")[2]) == (None, "more than 1,000")
    two = verdict("a < b", results({"a": [list(left[:2])], "b": [list(right[:2])]}))
    assert (two.seeds_needed, two.caveats) == (None, ())
    assert verdict("low < mid", results({"low": [LOW], "mid": [MID]})).seeds_needed is None
