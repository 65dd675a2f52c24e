"""The output of `curves`: the losses of each fit over its updates, as a table, a document and a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from collapse_sim.analysis.fit_records import FitRecord, grouped, mean_curve
from collapse_sim.analysis.numbers import figure, finite
from collapse_sim.core.errors import StoreError
from collapse_sim.ui import formatting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = (3.4, 2.5)  # inches
_LINE = 0.17  # inches, of a line of type
_SCALE, _TOP = "viridis", 0.85  # colours of generations, from dark to light


def curves_table(records: Sequence[FitRecord], arms: int) -> list[list[str]]:
    """Rows of cells, the first one with the headings; `arms`: the number of the run's arms."""
    rows = [
        ["generation", "arm", "seeds", "updates", "first loss", "last loss", "validation: last", "lowest", "at update"]
    ]
    for (k, names, _), fits in grouped(records).items():
        curve = mean_curve(fits)
        if not curve:
            continue
        lowest = min(curve, key=lambda e: e.validation_loss if math.isfinite(e.validation_loss) else math.inf)
        losses = (curve[0].train_loss, curve[-1].train_loss, curve[-1].validation_loss, lowest.validation_loss)
        updates = fmean(fit.updates for fit in fits)
        cells = [str(k), formatting.arms(names, arms), str(len(fits)), f"{updates:,.0f}", *map(figure, losses)]
        rows.append([*cells, f"{lowest.step:,}"])
    return rows


def why_none(records: Sequence[FitRecord]) -> str:
    """Why none of these fits has a curve; "" if one has."""
    if any(record.evaluations for record in records):
        return ""
    if not records:
        return "no fit of these is scored and in the store yet"
    if all(record.updates == 0 for record in records):
        return "these models are solved in closed form, or were imported: there are no training curves"
    return "these fits recorded no losses: the recipe has `train.evaluate: never`; see `every epoch`, `every N steps`"


def curves_document(run: str, records: Sequence[FitRecord], problems: Sequence[str]) -> dict[str, Any]:
    """`evaluations` are as the fit recorded them; null for a loss that is not finite."""
    return {
        "schema": 1,
        "run": run,
        "fits": [
            {
                **record.identity(),
                "evaluations": [
                    {name: finite(value) for name, value in each._asdict().items()} for each in record.evaluations
                ],
            }
            for record in records
        ],
        "problems": list(problems),
    }


def draw_curves(run: str, records: Sequence[FitRecord], arms: Sequence[str], unit: str, path: Path) -> None:
    """A panel for each arm: the means over seeds of validation losses (lines) and training losses (dashed), a colour
    for each generation. Raises StoreError if the file cannot be written."""
    from collapse_sim.analysis.drawing import save, style

    try:
        with style([run, *arms, unit]):
            save(curves_figure(run, records, arms, unit), path, dpi=300)
    except OSError as error:
        raise StoreError(f"{path}: cannot write the plot: {error.strerror or error}; choose another file") from error


def curves_svg(run: str, records: Sequence[FitRecord], arms: Sequence[str], unit: str) -> bytes:
    """The figure of `draw_curves` as an SVG file for a web page."""
    from collapse_sim.analysis.drawing import OUTLINES, style, svg_bytes

    with style([run, *arms, unit], OUTLINES):
        return svg_bytes(curves_figure(run, records, arms, unit, on_screen=True))


def curves_figure(
    run: str, records: Sequence[FitRecord], arms: Sequence[str], unit: str, *, on_screen: bool = False
) -> Figure:
    """The figure of `draw_curves`. `on_screen`: without the run's name, and with fixed margins, which take half the
    time where there are many panels."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from collapse_sim.analysis.drawing import labels

    by_arm = {arm: [r for r in records if arm in r.arms and r.evaluations] for arm in arms}
    shown = {arm: of_arm for arm, of_arm in by_arm.items() if of_arm}
    last = max((record.generation for of_arm in shown.values() for record in of_arm), default=0)
    columns = min(3, max(1, len(shown)))
    rows = max(1, math.ceil(len(shown) / columns))
    layout: Literal["constrained"] | None = None if on_screen else "constrained"
    drawing = Figure(figsize=(columns * _PANEL[0], rows * _PANEL[1] + 4 * _LINE), layout=layout)
    FigureCanvasAgg(drawing)
    if not on_screen:
        drawing.suptitle(formatting.plain(run))
    grid = drawing.subplots(rows, columns, squeeze=False, sharey=True)
    names, colours = labels(shown), {k: colormaps[_SCALE](_TOP * k / max(1, last)) for k in range(last + 1)}
    for axes, (arm, of_arm) in zip(grid.flat, shown.items(), strict=False):
        axes.set_title(names[arm])
        _lines(axes, of_arm, colours)
        axes.set_xlabel("update")
        axes.label_outer()
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel(formatting.plain(unit) or "loss")
    used = sorted({record.generation for of_arm in shown.values() for record in of_arm})
    kept = used if len(used) <= 8 else [used[round(i * (len(used) - 1) / 7)] for i in range(8)]
    handles = [Line2D([], [], color=colours[k], label=f"generation {k}") for k in kept]
    handles.append(Line2D([], [], color="#404040", label="validation rows"))
    handles.append(Line2D([], [], color="#404040", linestyle="--", label="training batches"))
    loc: Literal["lower center", "outside lower center"] = "lower center" if on_screen else "outside lower center"
    ncols = min(len(handles), 2 * columns)
    drawing.legend(handles=handles, loc=loc, ncols=ncols)
    if on_screen:
        width, height = drawing.get_size_inches()
        below = (math.ceil(len(handles) / ncols) + 3) * _LINE  # the legend, and the labels of the lowest panels
        margins = {"left": 0.9 / width, "right": 1 - 0.1 / width, "top": 1 - 2 * _LINE / height}
        drawing.subplots_adjust(**margins, bottom=below / height, wspace=0.08, hspace=0.3)
    return drawing


def _lines(axes: Axes, records: Sequence[FitRecord], colours: Mapping[int, Any]) -> None:
    for (k, _, _), fits in grouped(records).items():
        curve = mean_curve(fits)
        steps = [evaluation.step for evaluation in curve]
        marker = "." if len(curve) == 1 else ""
        axes.plot(steps, [e.validation_loss for e in curve], color=colours[k], marker=marker, linewidth=1.2)
        axes.plot(steps, [e.train_loss for e in curve], color=colours[k], marker=marker, linewidth=0.8, linestyle="--")
