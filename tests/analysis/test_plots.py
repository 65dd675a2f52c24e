"""Plots: the lines that are drawn, and the files that come out."""

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection
from PIL import Image

from collapse_sim.analysis.intervals import interval
from collapse_sim.analysis.plots import figure, plot
from collapse_sim.analysis.results import Results, read_results
from collapse_sim.errors import StoreError
from collapse_sim.ui.palette import color, linestyle, marker

from .conftest import WriteRun

SCORES = {
    "replace": {"loss": [[1.0, 1.1], [2.0, 2.1], [3.0, 3.3]], "fid": [[1.0, 2.0]] * 3},
    "distill": {"loss": [[1.0, 1.1], [1.5, 1.7]], "fid": [[1.0, 200.0]] * 3},
}


@pytest.fixture
def toy(write_run: WriteRun) -> Results:
    return read_results(write_run(SCORES, seeds=[0, 1], theory={"replace": {"loss": [1.0, 2.0, None]}}))


def bands(axes: Axes) -> list[FillBetweenPolyCollection]:
    return [artist for artist in axes.collections if isinstance(artist, FillBetweenPolyCollection)]


def test_one_panel_a_metric_one_line_an_arm(toy: Results) -> None:
    loss, fid = figure(toy, ["loss", "fid"]).axes
    assert [axes.get_title() for axes in (loss, fid)] == ["loss (lower is better)", "fid (lower is better)"]
    replace, distill, theory = loss.get_lines()
    assert len(fid.get_lines()) == 2
    for i, line in enumerate((replace, distill)):
        assert (line.get_color(), line.get_marker(), line.get_linestyle()) == (color(i), marker(i), linestyle(i))
    assert np.array_equal(replace.get_xydata(), [[0, 1.05], [1, 2.05], [2, 3.15]])
    assert np.allclose(distill.get_xydata(), [[0, 1.05], [1, 1.6]])
    assert theory.get_linestyle() == "--"
    assert np.array_equal(theory.get_ydata(), [1.0, 2.0, math.nan], equal_nan=True)
    assert (fid.get_yscale(), loss.get_yscale()) == ("linear", "linear")
    assert all(tick == int(tick) for tick in loss.get_xticks())


def test_bands_are_the_intervals(toy: Results) -> None:
    band, _ = bands(figure(toy, ["loss"]).axes[0])
    (path,) = band.get_paths()
    heights = path.vertices[path.vertices[:, 0] == 1][:, 1]
    expected = interval([2.0, 2.1])
    assert (heights.min(), heights.max()) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_the_legend_names_each_arm_once(toy: Results) -> None:
    (legend,) = figure(toy, ["loss", "fid"]).legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "replace",
        "distill",
        "95 % interval, 2 seeds",
        "theory",
    ]


def test_one_seed_has_no_band(write_run: WriteRun) -> None:
    (axes,) = figure(read_results(write_run({"a": {"m": [[1.0], [2.0], [3.0]]}}, seeds=[0])), ["m"]).axes
    assert (len(axes.get_lines()), bands(axes)) == (1, [])


def test_wide_ranges_are_logarithmic_and_gaps_stay_gaps(write_run: WriteRun) -> None:
    scores = {"a": {"m": [[1.0], [math.nan], [5000.0]], "n": [[-1.0], [2.0], [5000.0]]}}
    m, n = figure(read_results(write_run(scores, seeds=[0])), ["m", "n"]).axes
    assert (m.get_yscale(), n.get_yscale()) == ("log", "linear")
    assert np.array_equal(m.get_lines()[0].get_ydata(), [1.0, math.nan, 5000.0], equal_nan=True)


def test_one_step_recipes_show_paired_differences(write_run: WriteRun) -> None:
    reference = {"source": "S", "metric": "m", "generation": 1, "values": {"M1": 2.0, "distill": 1.8}}
    scores = {"M1": {"m": [[1.0, 1.0, 1.0], [2.0, 3.0, 4.0]]}, "distill": {"m": [[1.0, 1.0, 1.0], [1.4, 2.4, 3.7]]}}
    (axes,) = figure(read_results(write_run(scores, reference=reference)), ["m"]).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["M1", "distill"]
    assert axes.get_xlabel() == "% difference to M1\nat generation 1"
    dots = [tuple(line.get_xydata()[0]) for line in axes.get_lines() if line.get_marker() == "o"]
    rings = [tuple(line.get_xydata()[0]) for line in axes.get_lines() if line.get_marker() == "D"]
    assert dots == [(0.0, 0.0), (pytest.approx(-0.5 / 3 * 100), 1.0)]
    assert rings == [(0.0, 0.0), (pytest.approx(-10.0), 1.0)]
    bars = [bar for collection in axes.collections for bar in collection.get_segments()]
    expected = interval([-0.6, -0.6, -0.3])
    assert expected.low is not None
    assert bars[1][:, 0] == pytest.approx([expected.low / 3 * 100, expected.high / 3 * 100])


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_files_carry_run_version_and_date(toy: Results, tmp_path: Path, suffix: str) -> None:
    before = dict(mpl.rcParams)
    path = tmp_path / f"curves{suffix}"
    plot(toy, ["loss", "fid"], path)
    content = path.read_bytes()
    assert all(word in content.lower() for word in (b"toy", b"collapse-sim", b"creat"))
    assert dict(mpl.rcParams) == before
    if suffix == ".png":
        with Image.open(path) as picture:
            assert picture.text["Title"] == "toy"
            assert picture.width == 2 * 3.4 * 300


def test_an_unwritable_plot_is_explained(toy: Results, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write"):
        plot(toy, ["loss"], tmp_path / "nowhere" / "x.png")


def test_nothing_scored_gives_an_empty_picture(write_run: WriteRun, tmp_path: Path) -> None:
    plot(read_results(write_run({"a": {"m": []}}, generations=3)), [], tmp_path / "x.png")
    assert (tmp_path / "x.png").exists()


def test_a_thousand_seeds_are_one_curve_and_one_band_an_arm(write_run: WriteRun) -> None:
    rng = np.random.default_rng(0)
    scores = {arm: {"m": rng.normal(1, 0.1, (51, 1000)).tolist()} for arm in ("a", "b")}
    results = read_results(write_run(scores, seeds=range(1000)))
    drawing = figure(results, ["m"])
    assert len(bands(drawing.axes[0])) == 2
    assert len([line for line in drawing.axes[0].lines if len(line.get_xdata()) == 51]) == 2
