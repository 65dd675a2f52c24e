"""Tables of rates per generation, for a terminal and for papers."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from collapse_sim.analysis.numbers import bare_probability, figure, share_with_interval, with_interval
from collapse_sim.analysis.paper_tables import Form, PaperCell, PaperTable, written
from collapse_sim.analysis.rates import MetricRate
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.table import arm_notes, figure_column
from collapse_sim.analysis.wrapped_tables import TableColumn, blocks
from collapse_sim.ui.palette import COLORS


def rate_tables(results: Results, by_arm: Sequence[MetricRate], width: int | None) -> list[RenderableType]:
    """One table for each metric: every arm's slope per generation, its p value, and whether the metric levels off."""
    parts: list[RenderableType] = []
    for metric, own in _by_metric(by_arm).items():
        unit = "% per generation" if own[0].relative else _unit(results, metric)
        title = Text.assemble((metric, "bold"), f" {unit}: least-squares slope{_over(own)}")
        columns = [
            figure_column("slope", [slope_text(rate) for rate in own]),
            figure_column("p", [None if rate.p is None else bare_probability(rate.p) for rate in own]),
            TableColumn("shape", [Text(rate.shape, _style(rate)) for rate in own]),
            figure_column("levels off\nnear", [None if rate.limit is None else figure(rate.limit) for rate in own]),
        ]
        notes = arm_notes([(rate.arm, rate.note) for rate in own], len(own))
        parts += [title, *blocks(TableColumn("arm", [Text(rate.arm) for rate in own]), columns, width), *notes, ""]
    return parts


def paper_rates(results: Results, by_arm: Sequence[MetricRate], form: Form) -> str:
    """Arms by metrics: slope per generation, and the shape."""
    groups = _by_metric(by_arm)
    if not groups:
        return ""
    headers = [f"{metric}, {'% ' if own[0].relative else ''}per generation" for metric, own in groups.items()]
    cells = {(rate.arm, rate.metric): PaperCell(slope_text(rate), count=rate.shape) for rate in by_arm}
    rows = [(arm, [cells.get((arm, metric), PaperCell(None)) for metric in groups]) for arm in results.arms]
    caption = f"{results.name}: change per generation{_over(by_arm)}, and whether it levels off"
    notes = list(dict.fromkeys(rate.note for rate in by_arm if rate.note))
    return written([PaperTable(caption, [(header, None) for header in headers], rows, notes)], form)


def slope_text(rate: MetricRate) -> str | None:
    """The slope with its interval; if it is relative, in per cent without that sign."""
    if rate.slope is None:
        return None
    if rate.relative:
        return share_with_interval(rate.slope, rate.low, rate.high)
    return with_interval(rate.slope, rate.low, rate.high, signed=True)


def _by_metric(by_arm: Sequence[MetricRate]) -> dict[str, list[MetricRate]]:
    groups: dict[str, list[MetricRate]] = {}
    for rate in by_arm:
        groups.setdefault(rate.metric, []).append(rate)
    return groups


def _unit(results: Results, metric: str) -> str:
    unit = results.units.get(metric, "")
    return f"per generation ({unit})" if unit else "per generation"


def _over(by_arm: Sequence[MetricRate]) -> str:
    """ " of every seed over generations 0 to 5, mean over 3 seeds ± 95 % interval"."""
    seeds = sorted({rate.seeds for rate in by_arm})
    first, last = min(rate.first for rate in by_arm), max(rate.last for rate in by_arm)
    count = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    interval = " ± 95 % interval" if seeds[-1] > 1 else ""
    return f" over generations {first} to {last}, mean over {count} seed{'s' * (seeds[-1] != 1)}{interval}"


def _style(rate: MetricRate) -> str:
    return {"levels off": COLORS[2], "keeps going": COLORS[1]}.get(rate.shape, "dim")
