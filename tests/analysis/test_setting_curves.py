"""Curves over one setting: the points, bands and axes that are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection, LineCollection
from matplotlib.lines import Line2D

from collapse_sim.analysis.onset import Limit
from collapse_sim.analysis.over_settings import over_settings
from collapse_sim.analysis.plots import Size
from collapse_sim.analysis.results import Results, read_results
from collapse_sim.analysis.setting_curves import setting_curves
from tests.analysis.conftest import WriteRun
from tests.analysis.grids import arm, grid_run, map_arms, share_of, weight_of

WEIGHT = "teacher.weights.output"
FIRST = Limit()


def loss(own: dict[str, Any], k: int) -> float:
    return 1.0 + k * (max(0.0, 0.5 - weight_of(own)) + share_of(own))


def drawn(of: Results, limit: Limit = FIRST, generation: int = 2, size: Size | None = None) -> Axes:
    (axes,) = setting_curves(of, ["loss"], over_settings(of, [WEIGHT], generation, ()), limit, size).axes
    return axes


def lines(axes: Axes) -> list[Line2D]:
    """Those of groups of arms, without their markers."""
    return [line for line in axes.get_lines() if line.get_linestyle() == "-" and len(line.get_xdata()) > 2]


def test_points_and_bands_are_the_intervals(write_run: WriteRun) -> None:
    weights = [0.0, 0.25, 0.5, 0.75]
    of = read_results(grid_run(write_run, map_arms([0.0, 0.5], weights), loss))
    axes = drawn(of)
    for line, share in zip(lines(axes), (0.0, 0.5), strict=True):
        means = [of.mean(f"mix real={share} output={w}", "loss", 2) for w in weights]
        assert line.get_xydata().tolist() == [[w, m.mean] for w, m in zip(weights, means, strict=True) if m]
    bands = [each for each in axes.collections if isinstance(each, FillBetweenPolyCollection)]
    for band, share in zip(bands, (0.0, 0.5), strict=True):
        (path,) = band.get_paths()
        for w in weights:
            heights = path.vertices[path.vertices[:, 0] == w][:, 1]
            mean = of.mean(f"mix real={share} output={w}", "loss", 2)
            assert mean is not None
            assert (heights.min(), heights.max()) == (mean.low, mean.high)


def test_collapsed_points_are_filled(write_run: WriteRun) -> None:
    of = read_results(grid_run(write_run, {f"distill output={w}": arm(None, w) for w in (0.0, 0.25, 0.5, 0.75)}, loss))
    axes = drawn(of)
    filled, hollow = (line for line in axes.get_lines() if line.get_linestyle() == "None")
    assert np.isfinite(filled.get_ydata()).tolist() == [True, True, False, False]
    assert (filled.get_markerfacecolor(), hollow.get_markerfacecolor()) == (filled.get_color(), "white")
    (legend,) = axes.figure.legends
    names = [each.get_text() for each in legend.get_texts()]
    assert names == ["distill", "generation 0", "95 % interval, 4 seeds", "filled: collapsed, above generation 0"]


def test_arms_without_the_setting_are_horizontal_lines(write_run: WriteRun) -> None:
    arms = {**{f"distill output={w}": arm(None, w) for w in (0.1, 1.0)}, "replace": arm()}
    axes = drawn(read_results(grid_run(write_run, arms, loss)))
    (flat,) = [line for line in axes.get_lines() if list(line.get_xdata()) == [0, 1] and line.get_linestyle() != ":"]
    assert list(flat.get_ydata()) == pytest.approx([2.0, 2.0])
    assert "replace: without the setting" in [each.get_text() for each in axes.figure.legends[0].get_texts()]
    (bar,) = [line for line in axes.get_lines() if list(line.get_xdata()) == [0.99, 0.99]]
    mean = read_results(grid_run(write_run, arms, loss, folder="again")).mean("replace", "loss", 2)
    assert mean is not None
    assert list(bar.get_ydata()) == [mean.low, mean.high]


def test_theory_is_dashed(write_run: WriteRun) -> None:
    arms = {f"distill output={w}": arm(None, w) for w in (0.1, 0.5, 1.0)}
    of = read_results(grid_run(write_run, arms, loss, theory={name: {"loss": [1.0, 1.2, 1.4]} for name in arms}))
    (theory,) = [line for line in drawn(of).get_lines() if line.get_linestyle() == "--"]
    assert theory.get_xydata().tolist() == [[0.1, 1.4], [0.5, 1.4], [1.0, 1.4]]


@pytest.mark.parametrize(
    ("weights", "scale", "label"),
    [
        ([0.0, 0.5, 1.0], "linear", WEIGHT),
        ([0.01, 0.1, 1.0], "log", WEIGHT),
        ([0.0, 0.01, 1.0], "linear", f"{WEIGHT} (not to scale)"),
    ],
)
def test_scales(write_run: WriteRun, weights: list[float], scale: str, label: str) -> None:
    axes = drawn(read_results(grid_run(write_run, {f"d output={w}": arm(None, w) for w in weights}, loss)))
    assert (axes.get_xscale(), axes.get_xlabel()) == (scale, label)
    if "not" in label:
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "0.01", "1"]
        assert list(lines(axes)[0].get_xdata()) == [0, 1, 2]


def test_categories_keep_the_order_of_the_arms(write_run: WriteRun) -> None:
    arms = {f"a init={init}": arm(init=init) for init in ("previous", "fresh", "$x$")}
    of = read_results(grid_run(write_run, arms, loss))
    (axes,) = setting_curves(of, ["loss"], over_settings(of, ["init"], 2, ()), Limit()).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["previous", "fresh", "$x$"]
    assert axes.get_xlabel() == "init"
    assert not lines(axes)
    (bars,) = [each for each in axes.collections if isinstance(each, LineCollection)]
    for (low, high), name in zip(bars.get_segments(), arms, strict=True):
        mean = of.mean(name, "loss", 2)
        assert mean is not None
        assert (low[1], high[1]) == (mean.low, mean.high)


def test_the_limit_is_a_dotted_line(write_run: WriteRun) -> None:
    of = read_results(grid_run(write_run, {f"d output={w}": arm(None, w) for w in (0.1, 0.5, 1.0)}, loss))
    for limit, height in ((Limit(1.3, False), 1.3), (Limit(1.5), 1.5), (Limit(), 1.0)):
        (dotted,) = [line for line in drawn(of, limit).get_lines() if line.get_linestyle() == ":"]
        assert list(dotted.get_ydata()) == pytest.approx([height] * 2)


def test_a_value_that_is_not_scored_yet_is_a_gap(write_run: WriteRun) -> None:
    arms = {f"d output={w}": arm(None, w) for w in (0.1, 0.5, 1.0)}
    scores = {name: {"loss": [[1.0, 1.1], [2.0, 2.1]][: 1 if "0.5" in name else 2]} for name in arms}
    of = read_results(write_run(scores, seeds=[0, 1], settings={"arms": arms}))
    (line,) = lines(drawn(of, generation=1))
    assert np.isfinite(line.get_ydata()).tolist() == [True, False, True]


@pytest.mark.parametrize(("size", "width"), [("column", 3.4), ("page", 7.0)])
def test_sizes(write_run: WriteRun, size: Size, width: float) -> None:
    of = read_results(grid_run(write_run, {f"d output={w}": arm(None, w) for w in (0.1, 0.5, 1.0)}, loss))
    assert drawn(of, size=size).figure.get_figwidth() == pytest.approx(width)
