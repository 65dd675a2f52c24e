"""`collapse-sim curves`: how the losses of a run's fits went."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collapse_sim.cli.columns import columns
from collapse_sim.cli.options import ArmsOption, JsonOption, RunArgument, StoreOption
from collapse_sim.ui.console import data, document, say


def curves(
    run: RunArgument,
    arm: ArmsOption = None,
    generation: Annotated[
        list[int] | None, typer.Option("--generation", metavar="G", help="Only this generation (repeatable).")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", metavar="N", help="Only this seed (repeatable).")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the losses over updates (.png, .pdf, .svg).")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show the losses of every fit over its updates.

    The table has means over seeds: the losses at a fit's first and last evaluation, and the lowest validation loss.
    --json has every evaluation of every fit.
    """
    from collapse_sim.analysis.choices import check_cells
    from collapse_sim.analysis.fit_records import fit_records
    from collapse_sim.analysis.plots import check_suffix
    from collapse_sim.analysis.results import read_results
    from collapse_sim.analysis.training_curves import curves_document, curves_table, draw_curves, why_none
    from collapse_sim.store.run_directory import find_run

    if plot is not None:
        check_suffix(plot)
    folder = find_run(run)
    results = read_results(folder)
    check_cells(results, arm or (), generation or (), seed or ())
    records, problems = fit_records(folder, store)
    for problem in problems:
        say(f"warning: {problem}")
    chosen = [
        record
        for record in records
        if (not arm or set(arm) & set(record.arms))
        and (not generation or record.generation in generation)
        and (not seed or set(seed) & set(record.seeds))
    ]
    if json:
        document(curves_document(results.name, chosen, problems))
    elif any(record.evaluations for record in chosen):
        data(columns(curves_table(chosen, len(results.arms))))
        say("means over seeds; losses of single evaluations: --json")
    if why := why_none(chosen):
        say(why)
    if plot is not None and any(record.evaluations for record in chosen):
        unit = results.units.get("test_loss", "")
        draw_curves(results.name, chosen, [name for name in results.arms if not arm or name in arm], unit, plot)
        say(f"plot: {plot}")
