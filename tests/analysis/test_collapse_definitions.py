"""Verdicts by definition: closed forms, hand-made cases, and how often they are wrong."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from collapse_sim.analysis.collapse_definitions import (
    DEFINITIONS,
    DefinitionVerdict,
    definition_verdicts,
    definitions_document,
    rules,
)
from collapse_sim.analysis.results import Results
from tests.analysis.curves import gaussian, noise, regression, results_of

FLAT = np.full((4, 6), 2.0)
JITTER = 0.001 * np.random.default_rng(9).normal(size=(4, 6))
UP, DOWN = FLAT + 0.2 * np.arange(6) + JITTER, FLAT - 0.2 * np.arange(6) + JITTER


def verdicts(results: Results, **options: Any) -> dict[tuple[str, str], DefinitionVerdict]:
    return {(one.arm, one.definition): one for one in definition_verdicts(results, **options)}


def by_loss(curve: np.ndarray, definition: str = "rising loss", **extra: Any) -> DefinitionVerdict:
    results = results_of({"a": {"loss": curve}}, {"loss": "lower"}, measures={"loss": ("risk",)}, **extra)
    return verdicts(results)["a", definition]


@pytest.mark.parametrize(
    ("aspect", "definition", "better", "collapses"),
    [
        ("risk", "rising loss", "lower", UP),
        ("variance", "shrinking variance", None, DOWN),
        ("variance", "shrinking variance", "higher", DOWN),
        ("variance", "shrinking variance", "lower", UP),  # such as self_bleu
        ("tail", "lost tail", "higher", DOWN),
        ("modes", "lost modes", "higher", DOWN),
        ("drift", "drift", "lower", UP),
        ("drift", "drift", "higher", DOWN),  # such as mauve
    ],
)
def test_each_definition_has_its_direction(aspect: str, definition: str, better: Any, collapses: np.ndarray) -> None:
    opposite = UP if collapses is DOWN else DOWN
    arms = {"bad": {"m": collapses}, "good": {"m": opposite}, "same": {"m": FLAT}}
    own = verdicts(results_of(arms, {"m": better}, measures={"m": (aspect,)}))
    assert [own[arm, definition].status for arm in arms] == ["seen", "not seen", "not seen"]
    others = {name for (_, name), one in own.items() if one.status != "not measured"}
    assert others == {definition, *(["unbounded loss"] if aspect == "risk" else [])}


def test_a_verdict_has_its_figures() -> None:
    """The change is paired by seed: its interval and p value are scipy's."""
    curve = np.array([[1.0, 1.0], [2.0, 2.3], [3.0, 3.4], [4.0, 4.2]])
    own = by_loss(curve)
    paired = stats.ttest_rel(curve[:, 1], curve[:, 0])
    low, high = paired.confidence_interval(0.95)
    assert (own.metric, own.generation, own.seeds, own.metrics) == ("loss", 1, 4, ("loss",))
    assert (own.figure, own.before, own.after) == (pytest.approx(0.225), 2.5, pytest.approx(2.725))
    assert (own.low, own.high) == (pytest.approx(low), pytest.approx(high))
    assert (own.status, own.p) == ("undecided", pytest.approx(paired.pvalue))


def test_not_seen_takes_the_margin() -> None:
    """A rise of 3 % is less than 5 % and more than 2 % of generation 0's mean."""
    scatter = 0.02 * np.array([[0.0, 1.0], [0.0, -1.0], [0.0, 1.0], [0.0, -1.0], [0.0, 1.0], [0.0, -1.0]])
    results = results_of({"a": {"m": np.array([[2.0, 2.0]] * 6) + scatter}}, {"m": "lower"}, measures={"m": ("risk",)})
    assert verdicts(results)["a", "rising loss"].status == "not seen"
    assert verdicts(results, margin=0.005)["a", "rising loss"].status == "undecided"


def test_a_significant_change_below_the_margin_is_seen_and_marked() -> None:
    own = by_loss(np.array([[2.0, 2.02], [2.0, 2.021], [2.0, 2.019]]))
    assert (own.status, own.note) == ("seen", "significant, and less than the margin of 5 %")
    assert own.relative == pytest.approx(0.01)


def test_generation_0_near_0_has_no_margin() -> None:
    curve = np.array([[0.01, 0.01], [-0.01, -0.01], [0.002, 0.002]])
    own = by_loss(curve)
    assert (own.status, own.relative) == ("undecided", None)
    assert own.note.startswith("generation 0's mean may be 0")


def test_one_metric_that_changes_is_enough_and_all_have_to_be_still() -> None:
    def drift(kid: np.ndarray) -> DefinitionVerdict:
        arms = {"a": {"fid": FLAT, "kid": kid}}
        measures: Any = {"fid": ("drift",), "kid": ("drift",)}
        return verdicts(results_of(arms, {"fid": "lower", "kid": "lower"}, measures=measures))["a", "drift"]

    assert (drift(UP).status, drift(UP).metric) == ("seen", "kid")
    assert drift(FLAT).status == "not seen"
    noisy = FLAT + np.random.default_rng(0).normal(size=FLAT.shape)
    assert (drift(noisy).status, drift(noisy).metric) == ("undecided", "kid")


def test_arms_are_corrected_together() -> None:
    curve = np.array([[1.0, 1.0], [2.0, 2.3], [3.0, 3.4], [4.0, 4.4], [4.0, 4.2]])
    p = stats.ttest_rel(curve[:, 1], curve[:, 0]).pvalue
    assert 0.01 < p < 0.05
    measures: Any = {"loss": ("risk",)}
    alone = results_of({"a": {"loss": curve}}, {"loss": "lower"}, measures=measures)
    assert verdicts(alone)["a", "rising loss"].status == "seen"
    several = results_of({name: {"loss": curve} for name in "abcd"}, {"loss": "lower"}, measures=measures)
    own = verdicts(several)["a", "rising loss"]
    assert (own.status, own.p) == ("undecided", pytest.approx(4 * p))


def test_what_is_not_measured_says_why() -> None:
    own = verdicts(results_of({"a": {"m": FLAT}}))
    assert {one.status for one in own.values()} == {"not measured"}
    assert "`run` with the same recipe adds that" in own["a", "drift"].note
    other = verdicts(results_of({"a": {"m": FLAT}}, {"m": "lower"}, measures={"m": ("risk",)}))
    assert other["a", "drift"].note == "no metric of the run measures it"
    first = verdicts(results_of({"a": {"m": FLAT[:, :1]}}, {"m": "lower"}, measures={"m": ("risk",)}))
    assert first["a", "rising loss"].note == "no generation after generation 0 is scored yet"


def test_a_diverged_seed_and_an_unfinished_run_are_named() -> None:
    curve = UP.copy()
    curve[2, 4:] = np.nan
    own = by_loss(curve, diverged={"a": {2: 4}})
    assert (own.status, own.figure, own.p) == ("undecided", None, None)
    assert own.note == "not every score is finite; a: seed 2 diverged at generation 4"
    results = results_of({"a": {"loss": UP}}, {"loss": "lower"}, measures={"loss": ("risk",)})
    assert verdicts(replace(results, generations=9))["a", "rising loss"].note == "generation 5 of 9 so far"


def test_one_seed_without_rows_is_undecided() -> None:
    own = by_loss(UP[:1])
    assert (own.status, own.note) == ("undecided", "one seed gives no interval: add seeds")
    assert by_loss(UP[:1], "unbounded loss").status == "undecided"


def test_losses_that_rise_are_unbounded_or_not() -> None:
    k = np.arange(6)
    assert by_loss(UP, "unbounded loss").status == "seen"
    bounded = by_loss(JITTER - np.exp(-k / 1.5), "unbounded loss")
    assert (bounded.status, bounded.metric) == ("not seen", "loss")
    assert re.fullmatch(r"levels off near -?0\.0\d+", bounded.note)
    assert by_loss(DOWN, "unbounded loss").status == "not seen"
    assert by_loss(UP[:, :3], "unbounded loss").status == "undecided"


def test_closed_forms() -> None:
    """Replaced and accumulated regression, and the variance of a replaced Gaussian, (1 - 1/n)^t."""
    rng = np.random.default_rng(3)
    arms = {
        name: {"error": regression(rng, 1_000, 20, accumulate=name == "accumulate")}
        for name in ("replace", "accumulate")
    }
    own = verdicts(results_of(arms, {"error": "lower"}, measures={"error": ("risk",)}, bounds={"error": (0.0, None)}))
    assert [own[arm, "rising loss"].status for arm in arms] == ["seen", "seen"]
    assert [own[arm, "unbounded loss"].status for arm in arms] == ["seen", "not seen"]
    assert own["replace", "rising loss"].relative == pytest.approx(20, rel=0.1)
    ratios = gaussian(rng, 4_000, 10, 100)
    shrinking = verdicts(results_of({"a": {"v": ratios}}, measures={"v": ("variance",)}))["a", "shrinking variance"]
    assert (shrinking.status, shrinking.relative) == ("seen", pytest.approx(0.99**10 - 1, abs=0.01))


@pytest.mark.parametrize("seeds", [3, 10])
def test_nothing_is_seen_where_nothing_changes(seeds: int) -> None:
    """Four arms and two metrics: one verdict "seen" among the four arms in less than 5 % of experiments."""
    rng, experiments = np.random.default_rng(4), 300
    measures: Any = {"m": ("drift",), "n": ("drift",)}
    wrong = 0
    for _ in range(experiments):
        arms = {arm: {"m": noise(rng, seeds, 5), "n": noise(rng, seeds, 5)} for arm in "abcd"}
        own = definition_verdicts(results_of(arms, {"m": "lower", "n": "lower"}, measures=measures))
        wrong += any(one.status == "seen" for one in own)
    assert wrong <= 0.05 * experiments + 2 * (0.05 * 0.95 * experiments) ** 0.5


def test_a_change_of_the_margin_is_rarely_said_not_to_be_seen() -> None:
    rng, experiments = np.random.default_rng(5), 400
    wrong = 0
    for _ in range(experiments):
        curve = 1 + 0.02 * rng.normal(size=(5, 2)) + np.array([0.0, 0.05])
        wrong += by_loss(curve).status == "not seen"
    assert wrong <= 0.05 * experiments


def test_every_definition_has_a_rule_that_travels_with_its_verdict() -> None:
    results = results_of({"a": {"loss": UP}}, {"loss": "lower"}, measures={"loss": ("risk",)})
    own = definition_verdicts(results, margin=0.1)
    assert [one.definition for one in own] == list(DEFINITIONS)
    assert {one.definition: one.rule for one in own} == rules(0.1)
    assert "less than 10 % of generation 0's mean" in own[0].rule
    assert set(definitions_document(own)[0]) == set(DefinitionVerdict.__dataclass_fields__)
