"""Plots of one-step recipes: where the dots stand, read off the axes, against differences worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy import stats

from collapse_sim.analysis.dots import dots
from collapse_sim.analysis.results import RecordedReference, Results

BASE = [2.0, 2.2, 1.9, 2.1]
OTHER = [3.0, 3.3, 2.7, 3.1]


def results(base: list[float] = BASE, **extra: Any) -> Results:
    values = {
        arm: {"m": {0: dict(enumerate(scores))}} for arm, scores in (("base", base), ("other", OTHER), ("late", [9.0]))
    }
    return Results("x", ("base", "other", "late"), (0, 1, 2, 3), {"m": "lower"}, 0, "base", values, **extra)


def drawn(found: Results) -> tuple[Axes, dict[str, Any]]:
    axes = Figure().subplots()
    handles: dict[str, Any] = {}
    dots(axes, found, "m", handles)
    return axes, handles


def points(axes: Axes, style: str) -> dict[int, float]:
    """{row: where its dot stands} of the dots of one shape."""
    lines = [line for line in axes.lines if line.get_marker() == style]
    places = [(np.asarray(line.get_ydata()), np.asarray(line.get_xdata())) for line in lines]
    return {round(float(y[0])): float(x[0]) for y, x in places}


def test_dots_are_paired_differences_in_percent_of_the_baseline() -> None:
    axes, handles = drawn(results())
    differences = np.array(OTHER) - BASE
    size = np.mean(BASE) / 100
    found = points(axes, "o")
    assert found[0] == 0.0
    assert found[1] == pytest.approx(differences.mean() / size)
    assert found[2] == pytest.approx((9.0 - 2.0) / size)  # over seed 0, which both have
    half = stats.t.ppf(0.975, 3) * differences.std(ddof=1) / 2 / size
    bars = [bar for bar in axes.collections if isinstance(bar, LineCollection)]
    (segment,) = [s for bar in bars for s in bar.get_segments() if len(s) and round(s[0][1]) == 1]
    assert sorted(x for x, _ in segment) == pytest.approx([found[1] - half, found[1] + half])
    assert axes.get_xlabel() == "% difference to base\nat generation 0"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["base", "other", "late"]
    assert any(key.startswith("mean, 95 % interval") for key in handles)
    low, high = axes.get_ylim()
    assert low > high  # the first arm is at the top


def test_a_baseline_that_may_be_zero_leaves_differences_in_the_metrics_unit() -> None:
    axes, _ = drawn(results([1.0, -1.2, 0.1, 0.3], units={"m": "nats"}))
    assert points(axes, "o")[1] == pytest.approx(np.mean(np.array(OTHER) - [1.0, -1.2, 0.1, 0.3]))
    assert axes.get_xlabel() == "difference to base\nat generation 0, nats"


def test_published_differences_are_rings_where_both_figures_are_known() -> None:
    reference = RecordedReference("S", "m", 0, {"base": 4.0, "other": 5.0})
    axes, handles = drawn(results(references=(reference,)))
    assert points(axes, "D") == {0: 0.0, 1: pytest.approx(25.0)}
    assert "published" in handles
    zero = RecordedReference("S", "m", 0, {"base": 0.0, "other": 5.0})
    assert points(drawn(results(references=(zero,)))[0], "D") == {}


def test_arms_with_a_diverged_fit_say_so() -> None:
    axes, _ = drawn(results(diverged={"other": {3: 0}}))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["base", "other (diverged)", "late"]
