"""The first table of `compare`: arms by metrics at one generation."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from collapse_sim.analysis import row_intervals
from collapse_sim.analysis.reached import common, progress_elsewhere
from collapse_sim.analysis.results import Better, Results
from collapse_sim.analysis.table import STAR, divergence_notes, figures, metric_notes, seeds_over
from collapse_sim.analysis.wrapped_tables import TableColumn, blocks, folded

_ARROWS: dict[Better, str] = {"lower": " ↓", "higher": " ↑", None: ""}
_WIDE = 16  # characters of a unit per line of a heading


def summary(results: Results, metrics: Sequence[str], generation: int, width: int | None) -> list[RenderableType]:
    """Means with intervals, the best of every metric marked, below the metric's name, direction and unit.

    Metrics without a score at this generation are listed below the table.
    """
    means = {metric: results.means(metric, generation) for metric in metrics}
    shown = [metric for metric in metrics if means[metric]]
    columns = [
        figures(results, metric, generation, f"{metric}{_ARROWS[results.metrics[metric]]}{_unit(results, metric)}")
        for metric in shown
    ]
    tables = blocks(TableColumn("arm", [Text(arm) for arm in results.arms]), columns, width)
    seeds = seeds_over([mean for metric in shown for mean in means[metric].values()])
    directions = {results.metrics[metric] for metric in shown}
    arrows = [
        words for better, words in (("lower", "↓ lower is better"), ("higher", "↑ higher")) if better in directions
    ]
    title = Text.assemble(
        (results.name, "bold"),
        f" at generation {generation}: mean over {seeds}",
        "; " * bool(arrows) + ", ".join([*arrows, STAR] if arrows else []),
    )
    by_rows = [row_intervals.in_place_of_seeds(results, metric, generation, means[metric]) for metric in shown]
    notes = row_intervals.note([interval for over_rows in by_rows for interval in over_rows.values()])
    return [
        title,
        *tables,
        *notes,
        *_elsewhere(results, metrics, generation),
        *divergence_notes(results),
        *_notes(results, shown),
    ]


def _unit(results: Results, metric: str) -> str:
    return "".join(f"\n{line.rstrip()}" for line in folded(results.units.get(metric, ""), _WIDE) if line)


def _elsewhere(results: Results, metrics: Sequence[str], generation: int) -> list[str]:
    """Lines on arms that are beyond or before the generation, and on metrics scored only at other generations."""
    lines = []
    others = progress_elsewhere(results, metrics, generation)
    if others:
        last = generation == common(results, metrics)
        lines.append(f"generation {generation}{' is the last that all arms have' * last}; {others}")
    for metric in metrics:
        scored = results.scored(metric)
        if scored and generation not in scored:
            lines.append(f"{metric}: no scores at generation {generation}, the last are at {scored[-1]}")
    return lines


def _notes(results: Results, metrics: Sequence[str]) -> list[Text]:
    """The notes on figures, each once for all metrics that have it."""
    by_text: dict[str, tuple[Text, list[str]]] = {}
    for metric in metrics:
        for text in metric_notes(results, metric):
            by_text.setdefault(text.plain, (text, []))[1].append(metric)
    return [Text.assemble((f"{', '.join(names)}: ", "dim"), text) for text, names in by_text.values()]
