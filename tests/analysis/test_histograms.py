"""Histograms of single texts' values: what is drawn of hand-made values, and what is said of those that aren't."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import StepPatch
from PIL import Image

from collapse_sim.analysis import histograms
from collapse_sim.analysis.histograms import SHOWN, generations_shown, value_histograms
from collapse_sim.core.errors import StoreError
from collapse_sim.ui.palette import color

RNG = np.random.default_rng(0)


def drawn(found: dict[str, dict[int, np.ndarray]]) -> list[Axes]:
    return histograms._figure(found, "perplexity", "perplexity", "").axes


def spread(middle: float, n: int = 400) -> np.ndarray:
    return middle * np.exp(RNG.normal(0, 0.4, n))


def texts(axes: Axes) -> list[str]:
    return [line for text in axes.texts for line in text.get_text().split("\n")]


def test_a_panel_an_arm_and_a_line_a_generation():
    found = {arm: {k: spread(20 - 3 * k) for k in range(4)} for arm in ("replace", "accumulate")}
    panels = drawn(found)
    assert [axes.get_title(loc="left") for axes in panels] == ["replace", "accumulate"]
    for i, axes in enumerate(panels):
        assert axes.get_xscale() == "log"
        assert axes.get_xlim() == panels[0].get_xlim()
        assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1", "2", "3"]
        steps = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
        assert len(steps) == 4
        assert all(np.allclose(patch.get_facecolor()[:3], _rgb(color(i))) for patch in steps)
        for k, patch in enumerate(steps):
            heights, edges, baseline = patch.get_data()
            assert baseline == -k
            values = found[["replace", "accumulate"][i]][k]
            counts = np.array([((values >= a) & (values < b)).sum() for a, b in itertools.pairwise(edges)])
            np.testing.assert_allclose((heights - baseline) / 0.85, counts / counts.max())


def _rgb(text: str) -> list[float]:
    return [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def test_medians_are_marked_and_written():
    (axes,) = drawn({"a": {0: np.array([5.0, 20.0, 80.0]), 1: np.array([7.0, 9.0])}})
    marks = [c.get_segments()[0] for c in axes.collections if isinstance(c, LineCollection)]
    assert [mark[0, 0] for mark in marks] == [20.0, 8.0]
    assert texts(axes)[:2] == ["20.0", "8.00"]


def test_values_that_are_not_drawn_are_counted():
    """Without a logarithm: 3 of generation 0; far off: the one that is 10^9 times the others."""
    odd = np.concatenate([spread(20, 2000), [math.nan, math.inf, 0.0]])
    far = np.concatenate([spread(20, 2000), [2e10]])
    (axes,) = drawn({"a": {0: odd, 1: far, 2: np.zeros(0), 3: np.full(5, math.nan)}})
    said = texts(axes)
    assert "3 not shown" in said
    assert "1 not shown" in said
    assert "5 not shown" in said
    assert "no texts" in said
    assert axes.get_xlim()[1] < 1000
    shown = sum(patch.get_data().values.max() > patch.get_data().baseline for patch in axes.patches)
    assert shown == 2


@pytest.mark.parametrize("values", [np.full(9, 3.0), np.array([1.0]), np.array([1e-3, 1e6]), np.zeros(4), np.zeros(0)])
def test_any_values_are_drawn(values, tmp_path):
    value_histograms({"a": {0: values, 1: values}}, "m", "unit", tmp_path / "x.png", "note")
    assert (tmp_path / "x.png").exists()


def test_more_generations_than_lines_are_thinned_out_evenly():
    found = {"a": dict.fromkeys(range(51), np.ones(1)), "b": dict.fromkeys(range(20), np.ones(1))}
    shown = generations_shown(found)
    assert len(shown) == SHOWN
    assert (shown[0], shown[-1]) == (0, 50)
    assert set(np.diff(shown)) <= {5, 6}
    assert generations_shown({"a": dict.fromkeys(range(SHOWN), np.ones(1))}) == list(range(SHOWN))


@pytest.mark.parametrize("arms", range(1, 7))
def test_panels_lie_inside_and_apart(arms):
    figure = histograms._figure({f"arm {i}": {0: spread(5), 1: spread(4)} for i in range(arms)}, "m", "unit", "")
    boxes = [axes.get_position() for axes in figure.axes]
    assert len(boxes) == arms
    assert all(0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1 for box in boxes)
    assert sum(a.overlaps(b) for a in boxes for b in boxes) == arms  # with itself only


def test_the_file(tmp_path, monkeypatch):
    path = tmp_path / "perplexities-m.png"
    seen = []
    replace = Path.replace

    def noting(self, target):
        seen.append((self.name, target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noting)
    value_histograms({"a": {0: spread(5)}}, "m", "unit", path, "note")
    ((scratch, target),) = seen
    assert re.fullmatch(r"\.perplexities-m\.[0-9a-f]{8}\.tmp\.png", scratch)
    assert target == path
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    with Image.open(path) as picture:
        assert picture.width == 3.0 * 150
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        value_histograms({"a": {0: spread(5)}}, "m", "unit", tmp_path / "file" / "x.png", "note")
