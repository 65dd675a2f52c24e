"""`status RUN`: print the status of a run once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from collapse_sim.cli.columns import columns
from collapse_sim.cli.examples import complete_run
from collapse_sim.core.errors import RecipeError
from collapse_sim.ui.console import data, document, say

if TYPE_CHECKING:
    from pathlib import Path

    from collapse_sim.ui.run_status import RunStatus
    from collapse_sim.ui.state import State


def status(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="A run directory, or the name of a run below ./runs. Default: all of these.",
            autocompletion=complete_run,
        ),
    ] = None,
    costs: Annotated[
        bool, typer.Option("--costs", help="Print what each fit of RUN and its samples took: time, rows/s, bytes.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print the status of a run, or of all runs.

    Without RUN, lists the runs below ./runs. With RUN, shows what is done, the latest values, the process that runs it,
    and the command that continues it.
    """
    from collapse_sim.store.pruning import pruned_of
    from collapse_sim.store.run_directory import find_run
    from collapse_sim.ui import formatting
    from collapse_sim.ui.run_status import run_status

    if run is None:
        if costs:
            raise RecipeError("--costs: name a run")
        print_runs(as_json=json)
        return
    if costs:
        print_costs(find_run(run), as_json=json)
        return
    folder = find_run(run, starting=True)
    current, pruned = run_status(folder), pruned_of(folder)
    for problem in current.problems:
        say(f"warning: {problem}")
    if json:
        document(as_json(current) | {"pruned": {"artefacts": pruned.artefacts, "bytes": pruned.bytes}})
    else:
        print_frame(current)
        if pruned.artefacts:
            freed = formatting.size(pruned.bytes)
            data(f" pruned: {formatting.plural(pruned.artefacts, 'artefact')}, {freed} freed; a run makes them again")


def print_costs(folder: Path, *, as_json: bool) -> None:
    """Print what the fits of a run and their samples took, as their manifests say, and what all of them took."""
    from collapse_sim.analysis.fit_costs import costs_document, costs_table, costs_total
    from collapse_sim.analysis.fit_records import fit_records
    from collapse_sim.store.run_directory import read_run

    records, problems = fit_records(folder)
    for problem in problems:
        say(f"warning: {problem}")
    run = read_run(folder)
    if as_json:
        document(costs_document(run["name"], records, problems))
    elif records:
        data(columns(costs_table(records, len(run["arms"]))))
        data(costs_total(records))
    else:
        say("no fit is scored and in the store yet")


def print_runs(*, as_json: bool) -> None:
    """Print every run below ./runs: name, status, last change. A damaged run does not hide the others."""
    from collapse_sim.core.errors import CollapseSimError
    from collapse_sim.store.run_directory import RUNS, runs_here
    from collapse_sim.ui.run_status import last_change, run_status

    rows = []
    for folder in runs_here():
        row: dict[str, Any] = {"run": folder.name, "directory": str(folder), "changed": last_change(folder)}
        try:
            current = run_status(folder)
        except CollapseSimError as error:
            if (folder / "run.json").exists():  # otherwise its process ended before the run began
                rows.append(row | {"status": "damaged", "cells_done": None, "cells": None, "problem": str(error)})
            continue
        done, total = progress(current.state)
        rows.append(row | {"status": current.word, "cells_done": done, "cells": total, "problem": ""})
    if as_json:
        document({"schema": 1, "runs": rows})
    elif not rows:
        say(f"there are no runs below ./{RUNS}")
    else:
        data(columns([["run", "status", "cells done", "last change"], *map(_run_row, rows)]))


def _run_row(row: dict[str, Any]) -> list[str]:
    import time

    done = f"{row['cells_done']} of {row['cells']}" if row["cells"] else "-"
    changed = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["changed"])) if row["changed"] else "-"
    return [row["run"], row["status"], done, changed]


def progress(state: State) -> tuple[int, int]:
    """The number of cells (arm x generation) that are done, and of all cells."""
    done = sum(state.complete(cell) for cells in state.cells.values() for cell in cells)
    return done, len(state.cells) * (state.generations + 1)


def print_frame(status: RunStatus) -> None:
    """Print the dashboard on stdout, as wide as the terminal and as high as needed."""
    import sys

    from rich.console import Console

    from collapse_sim.core.printable import Clean
    from collapse_sim.ui.frame import frame

    console = Console(file=sys.stdout, highlight=False)
    with console.capture() as capture:
        console.print(frame(status.state, console.width, 200, remark(status)))
    data(Clean(capture.get()))
    if status.word not in ("finished", "running", "starting"):
        data(f" continue: {status.command}")  # never cut, so that it can be copied


def remark(status: RunStatus) -> str:
    """The status in one sentence; "" while the run is running."""
    state = status.state
    done, total = progress(state)
    cells = f"{done} of {total} cells (arm x generation) are done"
    diverged = sum(
        state.complete(cell) and state.diverged(arm, k) > 0
        for arm, own in state.cells.items()
        for k, cell in enumerate(own)
    )
    cells += f", {diverged} of them with chains that diverged" if diverged else ""
    vanished = f"process {state.pid} on {state.host} is gone"
    message = f": {state.message}" if state.message else ""
    return {
        "starting": f"starting: process {state.pid} on {state.host} reads the recipe and the data",
        "running": "",
        "finished": f"finished: {cells}",
        "interrupted": f"interrupted: {cells}{message}",
        "failed": f"failed: {cells}{message}",
        "stopped": f"stopped: {vanished}; {cells}",
        "unfinished": f"unfinished: {cells}",
        "not started": "nothing is done yet",
    }[status.word]


def as_json(status: RunStatus) -> dict[str, Any]:
    """The same as a JSON document; values are means over seeds."""
    from collapse_sim.ui.grid_layout import series

    state = status.state
    content = state.to_json()
    arms = {}
    for arm, cells in state.cells.items():
        latest = {}
        for metric in state.metrics:
            means = [(k, x) for k, x in enumerate(series(state, arm, metric)) if x is not None]
            if means:
                k = means[-1][0]
                latest[metric] = {"generation": k, "mean": content["scores"][arm][metric][k]}
        arms[arm] = {"generations_done": sum(state.complete(cell) for cell in cells), "latest": latest}
    process = {"pid": state.pid, "host": state.host, "running": not status.ended} if state.pid else None
    return {
        "schema": 1,
        "run": state.name,
        "directory": state.run_dir,
        "status": status.word,
        "generations": state.generations + 1,
        "seeds": state.seeds,
        "arms": arms,
        "process": process,
        "job": content["job"],
        "on_nodes": content["on_nodes"],
        "continue": None if status.word == "finished" else status.command or None,
    }
