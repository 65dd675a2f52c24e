"""Phase diagrams: the cells, and the line at which a known function crosses the limit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from collapse_sim.analysis.onset import Limit
from collapse_sim.analysis.over_settings import over_settings
from collapse_sim.analysis.phase_diagram import boundary, phase_diagram
from collapse_sim.analysis.plots import Size
from collapse_sim.analysis.results import Results, read_results
from tests.analysis.conftest import WriteRun
from tests.analysis.grids import arm, grid_run, map_arms, share_of, weight_of

WEIGHT, SHARE = "teacher.weights.output", "data.real"
SHARES, WEIGHTS = [0.0, 0.25, 0.5, 0.75], [0.0, 0.5, 1.0]

FIRST = Limit()


def loss(own: dict[str, Any], k: int) -> float:
    """3.8 - 2 (share + weight) at generation 2."""
    return 1.0 + k * (1.4 - share_of(own) - weight_of(own))


def drawn(
    of: Results, limit: Limit = FIRST, size: Size | None = None, paths: tuple[str, str] = (SHARE, WEIGHT)
) -> Figure:
    return phase_diagram(of, ["loss"], over_settings(of, paths, 2, ()), limit, size)


def edges(axes: Axes, name: str = "collapse begins") -> set[tuple[tuple[float, float], tuple[float, float]]]:
    return {
        tuple(map(tuple, segment.tolist()))  # type: ignore[misc]
        for lines in axes.collections
        if isinstance(lines, LineCollection) and lines.get_gid() == name
        for segment in lines.get_segments()
    }


def legend(figure: Figure) -> list[str]:
    return [" ".join(text.get_text().split()) for text in figure.legends[0].get_texts()]


def test_cells_are_the_means_the_first_setting_to_the_right(write_run: WriteRun) -> None:
    of = read_results(grid_run(write_run, map_arms(SHARES, WEIGHTS), loss))
    axes, bar = drawn(of).axes
    (image,) = axes.get_images()
    for y, w in enumerate(WEIGHTS):
        for x, s in enumerate(SHARES):
            mean = of.mean(f"mix real={s} output={w}", "loss", 2)
            assert mean is not None
            assert image.get_array()[y, x] == mean.mean
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "0.25", "0.5", "0.75"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["0", "0.5", "1"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (SHARE, WEIGHT)
    assert image.origin == "lower"
    assert bar.get_ylabel() == "mean over 4 seeds"
    assert len(axes.texts) == len(SHARES) * len(WEIGHTS)


def test_the_line_is_where_a_known_function_crosses_the_limit(write_run: WriteRun) -> None:
    """The loss is above 2 where share + weight < 0.9."""
    of = read_results(grid_run(write_run, map_arms(SHARES, WEIGHTS), loss))
    figure = drawn(of, Limit(2.0, False))
    collapsed = np.array([[s + w < 0.9 for s in SHARES] for w in WEIGHTS])
    assert collapsed.tolist() == [[True] * 4, [True, True, False, False], [False] * 4]
    assert edges(figure.axes[0]) == {
        ((1.5, 0.5), (1.5, 1.5)),  # between 0.25 and 0.5 at weight 0.5
        ((-0.5, 1.5), (0.5, 1.5)),
        ((0.5, 1.5), (1.5, 1.5)),
        ((1.5, 0.5), (2.5, 0.5)),
        ((2.5, 0.5), (3.5, 0.5)),
    }
    assert legend(figure)[0] == (
        "collapse begins: on the darker side, cells are significantly above 2 (5 % over 12 cells together, Holm)"
    )


def test_dark_is_the_collapsed_side(write_run: WriteRun) -> None:
    of = read_results(grid_run(write_run, map_arms(SHARES, WEIGHTS), loss))
    (above,) = drawn(of, Limit(2.0, False)).axes[0].get_images()
    (below,) = drawn(of, Limit(2.0, False, "below")).axes[0].get_images()
    assert sum(above.cmap(1.0)[:3]) < sum(above.cmap(0.0)[:3])
    assert sum(below.cmap(0.0)[:3]) < sum(below.cmap(1.0)[:3])


def test_a_map_that_is_all_on_one_side_says_so(write_run: WriteRun) -> None:
    of = read_results(grid_run(write_run, map_arms(SHARES, WEIGHTS), loss))
    figure = drawn(of, Limit(50.0, False))
    assert edges(figure.axes[0]) == set()
    assert legend(figure) == ["no cell is significantly above 50 (5 % over 12 cells together, Holm)"]
    assert legend(drawn(of, Limit(0.01, False)))[0].startswith("every tested cell is significantly above 0.01")


def test_theory_crosses_where_it_should(write_run: WriteRun) -> None:
    arms = map_arms(SHARES, WEIGHTS)
    theory = {
        name: {"loss": [math.exp(k * (0.9 - share_of(own) - weight_of(own))) for k in range(3)]}
        for name, own in arms.items()
    }
    of = read_results(grid_run(write_run, arms, loss, theory=theory))
    figure = drawn(of, Limit(1.0, False))
    (line,) = [each for each in figure.axes[0].collections if isinstance(each, QuadContourSet)]
    points = np.concatenate([path.vertices for path in line.get_paths()])
    across, up = 0.25 * points[:, 0], 0.5 * points[:, 1]  # from numbers of cells to settings
    assert across + up == pytest.approx(0.9)  # the logarithm is linear, and so is the interpolation
    assert legend(figure)[-1] == "the expected value (theory) is at that limit"
    assert not [each for each in drawn(of).axes[0].collections if isinstance(each, QuadContourSet)]


def test_missing_cells_are_hatched_by_their_reason(write_run: WriteRun) -> None:
    arms = map_arms([0.0, 0.5], [0.1, 1.0])
    del arms["mix real=0.5 output=1.0"]
    scores = {name: {"loss": [[1.0, 1.1]] * (1 if "real=0.0 output=1.0" in name else 3)} for name in arms}
    scores["mix real=0.5 output=0.1"] = {"loss": [[1.0, 1.1], [1.0, 1.1], [math.nan, 1.0]]}
    figure = drawn(read_results(write_run(scores, seeds=[0, 1], settings={"arms": arms})))
    hatched = {
        tuple(patch.get_xy()): patch.get_hatch() for patch in figure.axes[0].patches if isinstance(patch, Rectangle)
    }
    assert hatched == {(0.5, 0.5): "....", (-0.5, 0.5): "////", (0.5, -0.5): "xxxx"}
    assert {"no such arm", "not scored yet", "diverged"} <= set(legend(figure))


def test_undecided_cells_lie_between_a_thick_and_a_thin_line(write_run: WriteRun) -> None:
    """loss is 1.8 exactly where share + weight = 1, so these two cells are on neither side."""
    of = read_results(grid_run(write_run, map_arms(SHARES, WEIGHTS), loss))
    figure = drawn(of, Limit(1.8, False))
    thick, thin = edges(figure.axes[0]), edges(figure.axes[0], "limit kept")
    undecided = {(0, 2), (2, 1)}
    sums = {(x, y): s + w for x, s in enumerate(SHARES) for y, w in enumerate(WEIGHTS)}
    assert {cell for cell, total in sums.items() if total == 1.0} == undecided
    assert thick == {
        ((1.5, 0.5), (1.5, 1.5)), ((-0.5, 1.5), (0.5, 1.5)), ((0.5, 1.5), (1.5, 1.5)), ((1.5, 0.5), (2.5, 0.5)),
        ((2.5, 0.5), (3.5, 0.5)),
    }  # fmt: skip
    assert thin == {
        ((0.5, 1.5), (0.5, 2.5)), ((0.5, 1.5), (1.5, 1.5)), ((1.5, 1.5), (2.5, 1.5)), ((2.5, 0.5), (2.5, 1.5)),
        ((2.5, 0.5), (3.5, 0.5)),
    }  # fmt: skip
    assert "on the lighter side of the thin line, cells are significantly below 1.8; in between, undecided" in legend(
        figure
    )
    assert not edges(drawn(of).axes[0], "limit kept")


def test_the_generation_as_an_axis(write_run: WriteRun) -> None:
    of = read_results(grid_run(write_run, {f"d output={w}": arm(None, w) for w in WEIGHTS}, loss, generations=40))
    over = over_settings(of, ["generation", WEIGHT], None, list(range(41)))
    axes = phase_diagram(of, ["loss"], over, Limit(3.0, False)).axes[0]
    (image,) = axes.get_images()
    assert image.get_array().shape == (3, 41)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [str(k) for k in range(0, 41, 5)]
    # 1 + 1.4 k > 3 from k = 2 on; 1 + 0.9 k from 3 on; 1 + 0.4 k from 6 on: the seed's noise is 0.003 k
    upright = {(a[0], a[1]) for a, b in edges(axes) if a[0] == b[0]}
    assert upright == {(1.5, -0.5), (2.5, 0.5), (5.5, 1.5)}
    assert not axes.texts  # figures that do not fit are left out


def test_generation_0_is_not_collapsed_where_it_is_the_limit(write_run: WriteRun) -> None:
    of = read_results(grid_run(write_run, {f"d output={w}": arm(None, w) for w in WEIGHTS}, loss))
    over = over_settings(of, ["generation", WEIGHT], None, [0, 1, 2])
    axes = phase_diagram(of, ["loss"], over, Limit()).axes[0]
    assert edges(axes) == {((0.5, y - 0.5), (0.5, y + 0.5)) for y in (0.0, 1.0, 2.0)}


def test_uneven_numbers_are_not_to_scale_and_say_so(write_run: WriteRun) -> None:
    of = read_results(grid_run(write_run, map_arms([0.0, 0.1, 0.5], WEIGHTS), loss))
    axes = drawn(of).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (f"{SHARE} (not to scale)", WEIGHT)


@pytest.mark.parametrize(("size", "width"), [("column", 3.4), ("page", 7.0)])
def test_sizes(write_run: WriteRun, size: Size, width: float) -> None:
    of = read_results(grid_run(write_run, map_arms(SHARES, WEIGHTS), loss))
    assert drawn(of, size=size).get_figwidth() == pytest.approx(width)


def test_equal_and_wide_values(write_run: WriteRun) -> None:
    flat = read_results(grid_run(write_run, map_arms(SHARES, WEIGHTS), lambda own, k: 1.0, seeds=[0]))
    assert drawn(flat).axes[0].get_images()
    wide = read_results(
        grid_run(write_run, map_arms(SHARES, WEIGHTS), lambda own, k: 10 ** (3 * share_of(own) + k), folder="wide")
    )
    assert drawn(wide).axes[1].get_yscale() == "log"


def test_boundary() -> None:
    nan = math.nan
    assert boundary(np.array([[1.0, 0.0, nan, 1.0]])) == [((0.5, -0.5), (0.5, 0.5))]
    assert boundary(np.array([[1.0], [nan], [0.0], [0.0]])) == []
    assert boundary(np.array([[1.0], [0.0]])) == [((-0.5, 0.5), (0.5, 0.5))]
