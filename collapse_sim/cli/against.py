"""`compare --against`: figures over the settings of grids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from collapse_sim.core.errors import RecipeError
from collapse_sim.ui.console import data, document, say

if TYPE_CHECKING:
    from collapse_sim.analysis.onset import Limit
    from collapse_sim.analysis.over_settings import OverSettings
    from collapse_sim.analysis.plots import Size
    from collapse_sim.analysis.results import Results


class Against(NamedTuple):
    """What was asked for."""

    settings: list[str] | None
    arms: list[str] | None = None
    collapse_at: str | None = None
    form: str | None = None  # "--json", ...; None: tables for a terminal
    plot: Path | None = None
    size: Size | None = None
    baseline: str | None = None
    everything: bool = False

    def check(self) -> None:
        """Raise RecipeError for options that would change nothing."""
        if self.settings:
            for option, given in (("--baseline", self.baseline is not None), ("--all", self.everything)):
                if given:
                    raise RecipeError(f"{option}: changes nothing with --against; remove one of the two")
            return
        for option, value in (("--arm", self.arms), ("--collapse-at", self.collapse_at)):
            if value:
                raise RecipeError(f"{option}: is for --against SETTING; add it, or remove {option}")


def show_against(
    results: Results, metrics: Sequence[str], chosen: Sequence[int] | None, generation: str | None, asked: Against
) -> None:
    """Print the table, and draw the figure; `chosen`: the requested generations, None for all."""
    from collapse_sim.analysis import over_settings_tables as tables
    from collapse_sim.analysis.onset import check_multiple, parse_limit
    from collapse_sim.analysis.over_settings import only_arms
    from collapse_sim.analysis.terminal import rendered, stdout_width

    limit = parse_limit(asked.collapse_at)
    if (limit.side is not None or not limit.relative) and len(metrics) > 1:
        raise RecipeError(
            f"--collapse-at {asked.collapse_at}: is a limit of one metric; add --metric NAME "
            f"(the run measures {', '.join(metrics)})"
        )
    results = only_arms(results, asked.arms) if asked.arms else results
    over = _layout(results, metrics, asked.settings or [], chosen, generation)
    check_multiple(results, metrics, tables.tested(over), limit)
    if asked.form == "--json":
        document(tables.over_settings_document(results, metrics, over, limit))
    elif asked.form == "--csv":
        data(tables.over_settings_csv(results, metrics, over, limit))
    elif asked.form in ("--latex", "--markdown"):
        latex = asked.form == "--latex"
        if text := tables.paper_form(results, metrics, over, limit, "latex" if latex else "markdown"):
            data(text.rstrip("\n"))
    else:
        width = stdout_width()
        parts = [
            part
            for metric in metrics
            if (table := tables.over_settings_tables(results, metric, over, limit, width))
            for part in (*table, "")
        ]
        if parts:
            data(rendered(parts, width))
    if asked.plot is not None:
        _draw(results, metrics, over, limit, asked.plot, asked.size)


def _layout(
    results: Results,
    metrics: Sequence[str],
    settings: Sequence[str],
    chosen: Sequence[int] | None,
    generation: str | None,
) -> OverSettings:
    from collapse_sim.analysis.over_settings import GENERATION, over_settings
    from collapse_sim.analysis.reached import common

    if GENERATION in settings:
        if generation not in (None, "all"):
            raise RecipeError(
                f"--generation {generation}: --against generation shows all of them; remove one of the two"
            )
        scored = sorted({k for metric in metrics for k in results.scored(metric)})
        return over_settings(results, settings, None, scored)
    if generation == "all":
        raise RecipeError(
            "--generation all: choose one generation, or take it as a second setting: --against generation"
        )
    if generation is None:
        last = common(results, metrics)
        chosen = [] if last is None else [last]
    return over_settings(results, settings, chosen[0] if chosen else 0, ())


def _draw(
    results: Results, metrics: Sequence[str], over: OverSettings, limit: Limit, path: Path, size: Size | None
) -> None:
    from collapse_sim.analysis.fonts import advice
    from collapse_sim.analysis.over_settings_tables import tested
    from collapse_sim.analysis.plots import user_texts, write_drawing

    places = tested(over)
    scored = [m for m in metrics if any(results.scores(place.arm, m, place.generation) for place in places)]
    if len(over.axes) == 2:
        from collapse_sim.analysis.phase_diagram import phase_diagram as figure
    else:
        from collapse_sim.analysis.setting_curves import setting_curves as figure
    write_drawing(lambda: figure(results, scored, over, limit, size), results, scored, path)
    say(f"plot: {path}")
    if boxes := advice(user_texts(results, scored)):
        say(f"note: {boxes}")
