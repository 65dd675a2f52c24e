"""Figures over the settings that a grid varies, in a report."""

from __future__ import annotations

from collections.abc import Sequence

from collapse_sim.analysis.drawing import OUTLINES, style, svg_bytes
from collapse_sim.analysis.onset import Limit
from collapse_sim.analysis.over_settings import OverSettings, is_number, over_settings, varied
from collapse_sim.analysis.over_settings_tables import over_settings_tables, tested
from collapse_sim.analysis.phase_diagram import phase_diagram
from collapse_sim.analysis.plots import PAGE, user_texts
from collapse_sim.analysis.reached import common
from collapse_sim.analysis.report.report_document import Block, ReportFold, ReportPicture
from collapse_sim.analysis.report.report_tables import from_rich
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.setting_curves import setting_curves
from collapse_sim.core.errors import RecipeError

LEAST = 3  # values that a setting must have


def setting_blocks(results: Results) -> list[Block]:
    """Every metric over the numbers that a grid varies, as `compare --against` draws it: curves over one, a map over
    two. [] without a grid of one or two numbers."""
    metrics = [metric for metric in results.metrics_without_parts() if results.scored(metric)]
    last = common(results, metrics)
    paths = [path for path in varied(results) if _is_number_of_a_grid(results, path)]
    if last is None or not 1 <= len(paths) <= 2:
        return []
    try:
        over = over_settings(results, paths, last, ())
    except RecipeError:  # arms differ in more than these
        return []
    shown = [m for m in metrics if any(results.scores(place.arm, m, place.generation) for place in tested(over))]
    return [block for number, metric in enumerate(shown) for block in _of_metric(results, metric, over, number)]


def _is_number_of_a_grid(results: Results, path: str) -> bool:
    values = [own[path] for own in results.differing.values() if own.get(path) is not None]
    return all(map(is_number, values)) and len(set(values)) >= LEAST


def _of_metric(results: Results, metric: str, over: OverSettings, number: int) -> Sequence[Block]:
    draw = phase_diagram if len(over.axes) == 2 else setting_curves
    paths = " and ".join(axis.path for axis in over.axes)
    with style([*user_texts(results, [metric]), paths], {**PAGE, **OUTLINES}):
        content = svg_bytes(draw(results, [metric], over, Limit()))
    alt = f"{metric} over {paths} at generation {over.generation}. The figures are in the table below."
    table = from_rich(over_settings_tables(results, metric, over, Limit(), None))
    return [
        ReportPicture(f"settings-{number:02d}", ".svg", content, alt),
        ReportFold(f"Table of {metric} over {paths}", table),
    ]
