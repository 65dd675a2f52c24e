"""Tables of `compare` for a metric with parts: every part at one generation, and when it dies."""

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
    """Both tables, each followed by an empty line; a table with nothing to show is left out."""
    if metric not in results.parts:
        return []
    tables = _values(results, metric, generation, width)
    if mortal(results, [metric]):
        tables += _deaths(results, metric, width)
    return tables


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
    """Arms by the parts that die in any arm."""
    names = results.parts[metric].names
    lives_by_cell = {
        (arm, name): list(lives(results, arm, metric, name).values()) for arm in results.arms for name in names
    }
    all_lives = [life for cell_lives in lives_by_cell.values() for life in cell_lives]
    if not all_lives:
        return []
    last = max(life.seen for life in all_lives)
    mortal_names = [
        name
        for name in names
        if any(life.death is not None for arm in results.arms for life in lives_by_cell[arm, name])
    ]
    rule = f"below {results.parts[metric].dead_below:g} from there to the end, generation {last}"
    if not mortal_names:
        return [Text.assemble((metric, "bold"), f": no part dies ({rule})"), ""]
    columns = []
    for name in mortal_names:
        deaths = [death(lives_by_cell[arm, name]) if lives_by_cell[arm, name] else None for arm in results.arms]
        columns.append(
            TableColumn(name, [Text("-" if entry is None else _death_text(entry, last)) for entry in deaths])
        )
    seeds = max(len(cell_lives) for cell_lives in lives_by_cell.values())
    seeds_text = f"median over {seeds} seed{'s' * (seeds != 1)}{' [95 % interval]' * (seeds >= ENOUGH)}"
    title = Text.assemble((metric, "bold"), f": generation at which a part dies ({rule}): {seeds_text}")
    alive = [
        name for name in names if name not in mortal_names and any(lives_by_cell[arm, name] for arm in results.arms)
    ]
    notes = [Text(f"alive in every seed: {', '.join(alive)}", "dim")] if alive else []
    return [title, *blocks(_arms(results), columns, width), *notes, ""]


def _death_text(death: Death, last: int) -> str:
    """ "3 [2, 4]"; "3 [2, > 5] 8/12" if it is alive in some seeds, "> 5" if in all."""
    median = _generation(death.median, last)
    if not death.died:
        return median
    ends = ""
    if death.low is not None and death.high is not None:
        ends = f" [{_generation(death.low, last)}, {_generation(death.high, last)}]"
    return f"{median}{ends}" + (f" {death.died}/{death.n}" if death.died < death.n else "")


def _generation(k: float, last: int) -> str:
    return f"> {last}" if math.isinf(k) else f"{k:.0f}"


def _arms(results: Results) -> TableColumn:
    return TableColumn("arm", [Text(arm) for arm in results.arms])
