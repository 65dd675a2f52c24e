"""Plots: the lines that are drawn, and the files that come out."""

import html
import itertools
import math
import re
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
from collapse_sim.core.errors import StoreError
from collapse_sim.store import journal
from collapse_sim.ui.palette import color, linestyle, marker
from tests.analysis.conftest import WriteRun, scores_line

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
        "theory",
        "95 % interval, 2 seeds",
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
    reference = [{"source": "S", "metric": "m", "generation": 1, "values": {"M1": 2.0, "distill": 1.8}}]
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


def test_panels_say_what_is_on_their_axes(write_run: WriteRun) -> None:
    metrics = {"loss": {"better": "lower", "unit": "nats per pixel"}, "odd": {"better": None}}
    run = write_run({"a": {"loss": [[1.0]] * 3, "odd": [[1.0]] * 3}}, seeds=[0], metrics=metrics, name="my run")
    drawing = figure(read_results(run), ["loss", "odd"])
    assert [axes.get_ylabel() for axes in drawing.axes] == ["nats per pixel", "odd"]
    assert [axes.get_xlabel() for axes in drawing.axes] == ["generation", "generation"]
    assert drawing.get_suptitle() == "my run"


def test_bounded_metrics_are_linear_within_their_bounds(write_run: WriteRun) -> None:
    """Values over three powers of ten, two of them in intervals that leave the bounds."""
    metrics = {
        "coverage": {"better": "higher", "bounds": [0.0, 1.0]},
        "fid": {"better": "lower", "bounds": [0.0, None]},
    }
    scores = {"a": {"coverage": [[0.95, 1.0], [0.1, 0.2], [0.0, 0.002]], "fid": [[0.1, 2.0], [1.0, 3.0], [9.0, 9.5]]}}
    coverage, fid = figure(read_results(write_run(scores, seeds=[0, 1], metrics=metrics)), ["coverage", "fid"]).axes
    assert (coverage.get_yscale(), coverage.get_ylim()) == ("linear", (0.0, 1.0))
    assert fid.get_ylim()[0] == 0.0
    (band,) = bands(coverage)
    heights = band.get_paths()[0].vertices[:, 1]
    assert 0.0 < heights.min() < heights.max() < 1.0  # on a scale without bounds, so none is cut


def test_logarithmic_axes_survive_intervals_below_zero(write_run: WriteRun, tmp_path: Path) -> None:
    scores = {"a": {"m": [[0.5, 2.0], [40.0, 41.0], [3000.0, 5000.0]]}}
    results = read_results(write_run(scores, seeds=[0, 1]))
    (axes,) = figure(results, ["m"]).axes
    assert axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    assert 0.05 < low < 1.25
    assert high > 5000
    plot(results, ["m"], tmp_path / "m.png")
    labels = [text.get_text() for text in axes.get_yticklabels() if text.get_text()]
    assert labels
    assert not any("$" in label for label in labels)  # no TeX: it is switched off for names


@pytest.mark.parametrize(
    "values", [[0.0, 0.0, 0.0], [-3.0, -2000.0, 5.0], [math.nan] * 3, [math.inf, 1.0, 2.0], [1e-300, 1.0, 1e300]]
)
@pytest.mark.parametrize("bounds", [[None, None], [0.0, None], [0.0, 1.0]])
def test_any_values_are_drawn(
    write_run: WriteRun, tmp_path: Path, values: list[float], bounds: list[float | None]
) -> None:
    run = write_run({"a": {"m": [[v] for v in values]}}, seeds=[0], metrics={"m": {"better": None, "bounds": bounds}})
    plot(read_results(run), ["m"], tmp_path / "m.svg")
    assert (tmp_path / "m.svg").stat().st_size > 1000


NAMES = ["$x_$", "a $$ b", "cost $5 vs $10", "100% $ only", "_hidden", r"\frac{", "a\nb\tc", "&<>#^~"]


@pytest.mark.parametrize("generations", [1, 3])
def test_names_are_drawn_as_they_are(write_run: WriteRun, tmp_path: Path, generations: int) -> None:
    metric = "w2 in $^2$ of $"
    scores = {name: {metric: [[1.0 + i]] * (generations + 1)} for i, name in enumerate(NAMES)}
    metrics = {metric: {"better": "lower", "unit": "$^$", "warning": "of $_$ rows"}}
    results = read_results(write_run(scores, seeds=[0], metrics=metrics, name="$_$"))
    plot(results, [metric], tmp_path / "x.svg")
    drawn = {html.unescape(text) for text in re.findall(r">([^<>]+)</text>", (tmp_path / "x.svg").read_text())}
    wanted = {"a b c" if name == "a\nb\tc" else name for name in NAMES}
    assert wanted | {f"{metric} (lower is better)", "$_$", "of $_$ rows"} <= drawn
    plot(results, [metric], tmp_path / "x.png")


@pytest.mark.parametrize("metrics", [1, 2])
def test_a_legend_of_twelve_arms_leaves_the_panels_their_room(write_run: WriteRun, metrics: int) -> None:
    names = [f"accumulate+distill output={i / 12:.3f}" for i in range(12)]
    chosen = [f"m{i}" for i in range(metrics)]
    scores = {name: {m: [[1.0 + i, 2.0 + i]] * 3 for m in chosen} for i, name in enumerate(names)}
    drawing = figure(read_results(write_run(scores, seeds=[0, 1])), chosen)
    drawing.canvas.draw()
    (legend,) = drawing.legends
    box, size = legend.get_window_extent(), drawing.bbox
    assert size.x0 <= box.x0 < box.x1 <= size.x1
    assert size.y0 <= box.y0
    for axes in drawing.axes:
        assert axes.get_tightbbox().y0 >= box.y1
        assert axes.get_window_extent().height > 1.5 * drawing.dpi  # inches


@pytest.mark.parametrize("last", [2, 7, 12, 50, 3200])
@pytest.mark.parametrize("scale", [1e-7, 0.3, 12345.6, 1e9])
def test_ticks_do_not_overlap(write_run: WriteRun, last: int, scale: float) -> None:
    values = [[scale * (1 + 0.1 * k / last)] for k in range(last + 1)]
    drawing = figure(read_results(write_run({"a": {"m": values, "n": values}}, seeds=[0])), ["m", "n"])
    drawing.canvas.draw()
    for axes in drawing.axes:
        for axis, side in ((axes.xaxis, "x"), (axes.yaxis, "y")):
            boxes = [tick.label1.get_window_extent() for tick in axis.get_major_ticks() if tick.label1.get_text()]
            spans = sorted((getattr(box, f"{side}0"), getattr(box, f"{side}1")) for box in boxes)
            assert len(spans) > 1
            assert all(end < start for (_, end), (start, _) in itertools.pairwise(spans))


def test_a_cross_stands_where_a_fit_diverged(write_run: WriteRun) -> None:
    run = write_run(SCORES, seeds=[0, 1])
    line = {"event": "diverged", "arm": "replace", "generation": 2, "seed": 0, "message": "nan"}
    journal.append(run / "journal.jsonl", [line])
    drawing = figure(read_results(run), ["loss"])
    (cross,) = [line for line in drawing.axes[0].get_lines() if line.get_marker() == "x"]
    assert (*cross.get_xdata(), *cross.get_ydata()) == (1, pytest.approx(2.05))
    assert cross.get_color() == color(0)
    curve = drawing.axes[0].get_lines()[0].get_ydata()
    assert math.isnan(curve[2])
    assert "then diverged" in [text.get_text() for text in drawing.legends[0].get_texts()]


def test_a_first_fit_that_diverges_leaves_an_empty_curve(write_run: WriteRun, tmp_path: Path) -> None:
    for name, last in (("one-step", 1), ("curves", 3)):
        run = write_run({arm: {"m": [[1.0, 2.0]] * (last + 1)} for arm in ("a", "b")}, seeds=[0, 1], name=name)
        gone = [{"event": "diverged", "arm": arm, "generation": 0, "seed": 0, "message": "nan"} for arm in ("a", "b")]
        journal.append(run / "journal.jsonl", gone)
        plot(read_results(run), ["m"], tmp_path / f"{name}.png")


def test_fewer_seeds_are_said_beside_the_arm(write_run: WriteRun) -> None:
    run = write_run({"a": {"m": [[1.0, 1.5, 2.0]] * 3}, "b": {"m": []}, "c": {"m": []}}, generations=2)
    lines = [scores_line("b", k, [0], {"m": [1.0]}) for k in range(3)]
    lines += [scores_line("c", k, [0, 1, 2][: 3 - k], {"m": [1.0, 2.0, 3.0][: 3 - k]}) for k in range(3)]
    journal.append(run / "journal.jsonl", lines)
    (legend,) = figure(read_results(run), ["m"]).legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["a", "b (1 seed)", "c (1 to 3 seeds)", "95 % interval, 3 seeds"]


def test_one_step_differences_to_nearly_nothing_are_in_the_metrics_unit(write_run: WriteRun) -> None:
    metrics = {"kid": {"better": "lower", "unit": "squared units"}}
    scores = {"base": {"kid": [[1.0, 1.0], [0.001, -0.001]]}, "arm": {"kid": [[1.0, 1.0], [0.4, 0.5]]}}
    (axes,) = figure(read_results(write_run(scores, seeds=[0, 1], metrics=metrics)), ["kid"]).axes
    assert axes.get_xlabel() == "difference to base\nat generation 1, squared units"
    dots = [tuple(line.get_xydata()[0]) for line in axes.get_lines() if line.get_marker() == "o"]
    assert dots == [(0.0, 0.0), (pytest.approx(0.45), 1.0)]


def test_the_users_own_settings_of_matplotlib_change_nothing(toy: Results, tmp_path: Path) -> None:
    with mpl.rc_context({"text.usetex": True, "font.family": ["no such font"], "axes.formatter.use_mathtext": True}):
        plot(toy, ["loss", "fid"], tmp_path / "x.png")


@pytest.mark.parametrize(("size", "width", "columns"), [("column", 3.4, 1), ("page", 7.0, 2)])
@pytest.mark.parametrize("generations", [1, 4])
def test_a_plot_is_as_wide_as_a_column_or_a_page(write_run, size, width, columns, generations):
    values = [[1.0 + k, 1.1 + k, 1.3 + k] for k in range(generations + 1)]
    scores = {arm: dict.fromkeys(("loss", "fid", "kid"), values) for arm in ("replace", "a longer name of an arm")}
    drawing = figure(read_results(write_run(scores)), ["loss", "fid", "kid"], size)
    drawing.canvas.draw()
    assert drawing.get_size_inches()[0] == pytest.approx(width)
    panels = [axes for axes in drawing.axes if axes.has_data()]
    lefts = {round(axes.get_subplotspec().colspan.start) for axes in panels}
    assert len(lefts) == columns
    for axes in panels:
        assert axes.get_window_extent().width > 0.25 * width / columns * drawing.dpi
