"""`compare` of a metric with parts: every part at one generation, and the generation at which it dies."""

from __future__ import annotations

import math

from rich.console import RenderableType
from rich.text import Text

from collapse_sim.analysis.deaths import ENOUGH, Death, death, lives, mortal
from collapse_sim.analysis.results import Results
from collapse_sim.analysis.table import STAR, figures, seeds_over
from collapse_sim.analysis.wrapped_tables import TableColumn, blocks
from collapse_sim.metrics.names import part_name


def parts_of(results: Results, metric: str, generation: int, width: int | None) -> list[RenderableType]:
    """Both tables, as far as there is something to show, each with an empty line behind."""
    if metric not in results.parts:
        return []
    found = _values(results, metric, generation, width)
    if mortal(results, [metric]):
        found += _deaths(results, metric, width)
    return found


def _values(results: Results, metric: str, generation: int, width: int | None) -> list[RenderableType]:
    names = [name for name in results.parts[metric].names if results.means(part_name(metric, name), generation)]
    if not names:
        return []
    columns = [figures(results, part_name(metric, name), generation, name) for name in names]
    means = [mean for name in names for mean in results.means(part_name(metric, name), generation).values()]
    better = results.parts[metric].better
    star = f", {STAR}" if better else ""
    title = Text.assemble((metric, "bold"), f" of every part at generation {generation}: mean over {seeds_over(means)}")
    return [title + star, *blocks(_arms(results), columns, width), ""]


def _deaths(results: Results, metric: str, width: int | None) -> list[RenderableType]:
    """Arms by the parts that die in any of them."""
    names = results.parts[metric].names
    found = {(arm, name): list(lives(results, arm, metric, name).values()) for arm in results.arms for name in names}
    seen = [one for each in found.values() for one in each]
    if not seen:
        return []
    last = max(one.seen for one in seen)
    lost = [name for name in names if any(one.death is not None for arm in results.arms for one in found[arm, name])]
    rule = f"below {results.parts[metric].dead_below:g} from there to the end, generation {last}"
    if not lost:
        return [Text.assemble((metric, "bold"), f": no part dies ({rule})"), ""]
    columns = []
    for name in lost:
        told = [death(found[arm, name]) if found[arm, name] else None for arm in results.arms]
        columns.append(TableColumn(name, [Text("-" if one is None else _told(one, last)) for one in told]))
    seeds = max(len(each) for each in found.values())
    over = f"median over {seeds} seed{'s' * (seeds != 1)}{' [95 % interval]' * (seeds >= ENOUGH)}"
    title = Text.assemble((metric, "bold"), f": generation at which a part dies ({rule}): {over}")
    rest = [name for name in names if name not in lost and any(found[arm, name] for arm in results.arms)]
    notes = [Text(f"no seed has lost: {', '.join(rest)}", "dim")] if rest else []
    return [title, *blocks(_arms(results), columns, width), *notes, ""]


def _told(found: Death, last: int) -> str:
    """ "3 [2, 4]"; "3 [2, > 5] 8/12" where some seeds have not lost it, "> 5" where none has."""
    median = _generation(found.median, last)
    if not found.died:
        return median
    ends = ""
    if found.low is not None and found.high is not None:
        ends = f" [{_generation(found.low, last)}, {_generation(found.high, last)}]"
    return f"{median}{ends}" + (f" {found.died}/{found.n}" if found.died < found.n else "")


def _generation(k: float, last: int) -> str:
    return f"> {last}" if math.isinf(k) else f"{k:.0f}"


def _arms(results: Results) -> TableColumn:
    return TableColumn("arm", [Text(arm) for arm in results.arms])
