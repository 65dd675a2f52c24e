"""Changes over the held-out rows of one seed; changes over seeds are in test_collapse_definitions.py."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from collapse_sim.analysis.collapse_definitions import definition_verdicts
from collapse_sim.analysis.from_generation_0 import change_of
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.row_values import Influence, RowValues
from tests.analysis.curves import results_of


@dataclass(frozen=True)
class Rows(RowValues):
    """Losses of held-out rows at generations 0 and 1."""

    losses: dict[int, np.ndarray] = field(default_factory=dict)

    def influence(self, metric: str, generation: int, seed: int) -> Influence | None:
        losses = self.losses.get(generation)
        return None if losses is None else (losses - losses.mean()).astype(np.float32)


def one_seed(first: np.ndarray, last: np.ndarray) -> Results:
    measures: Any = {"loss": ("risk",)}
    results = results_of({"a": {"loss": np.array([[first.mean(), last.mean()]])}}, {"loss": "lower"}, measures=measures)
    return replace(results, rows={"a": Rows({}, (Path(),), "rows", losses={0: first, 1: last})})


def test_rows_of_one_seed_are_paired() -> None:
    rng = np.random.default_rng(0)
    first = 3 + rng.normal(size=200)
    last = first + 0.02 + 0.1 * rng.normal(size=200)
    own = change_of(one_seed(first, last), "a", "loss", 0.05)
    assert own is not None
    expected = stats.ttest_rel(last, first)
    one_sided = stats.ttest_rel(last, first, alternative="greater").pvalue
    assert own.seen == pytest.approx(2 * one_sided, rel=1e-3)
    assert own.absent == pytest.approx(2 * stats.ttest_rel(last, 1.05 * first, alternative="less").pvalue, rel=1e-3)
    low, high = expected.confidence_interval(0.95)
    assert (own.difference.low, own.difference.high) == (pytest.approx(low, rel=1e-3), pytest.approx(high, rel=1e-3))
    assert own.rows == 200


@pytest.mark.parametrize(("rise", "status"), [(0.3, "seen"), (-0.3, "not seen"), (0.0, "not seen")])
def test_rows_decide_where_there_is_one_seed(rise: float, status: str) -> None:
    rng = np.random.default_rng(1)
    first = 3 + rng.normal(size=500)
    verdict = definition_verdicts(one_seed(first, first + rise + 0.1 * rng.normal(size=500)))[0]
    assert (verdict.status, verdict.seeds, verdict.rows) == (status, 1, 500)
    assert "another seed may differ" in verdict.note


def test_a_negative_loss_has_its_margin_on_the_right_side() -> None:
    """Of -3, 5 % more is -2.85: a rise by .05 is less, one by .3 is more."""
    curve = np.array([[-3.0, -2.95], [-3.01, -2.96], [-2.99, -2.94], [-3.02, -2.97]])
    results = results_of({"a": {"m": curve}}, {"m": "lower"})
    small, large = (
        change_of(
            replace(results, values={"a": {"m": {k: dict(enumerate(v)) for k, v in enumerate(c.T)}}}), "a", "m", 0.05
        )
        for c in (curve, curve + np.array([0.0, 0.25]))
    )
    assert small is not None
    assert large is not None
    assert small.absent < 0.001 < large.absent
    assert large.seen < 0.001


def test_a_skewed_metric_excludes_nothing() -> None:
    """Ten seeds over orders of magnitude: a few that are missing would dominate the mean."""
    rng = np.random.default_rng(2)
    curve = np.stack([np.ones(10), np.exp(4 * rng.normal(size=10) - 8)], 1)
    results = results_of({"a": {"m": curve}}, {"m": "lower"})
    plain, bounded = (
        change_of(results, "a", "m", 0.05),
        change_of(replace(results, bounds={"m": (0.0, None)}), "a", "m", 0.05),
    )
    assert plain is not None
    assert bounded is not None
    assert (plain.absent < 0.05, bounded.absent) == (True, 1.0)


def test_without_generation_0_or_a_later_one_there_is_no_change() -> None:
    results = results_of({"a": {"m": np.ones((3, 2))}})
    late = {"a": {"m": {k: {0: 1.0} for k in (1, 2)}}}
    assert change_of(replace(results, values=late), "a", "m", 0.05) is None
    other_seeds = {"a": {"m": {0: {0: 1.0}, 1: {1: 1.0}}}}
    assert change_of(replace(results, values=other_seeds), "a", "m", 0.05) is None
