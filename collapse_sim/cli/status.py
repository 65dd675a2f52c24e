"""`status RUN`: where a run stands, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from collapse_sim.cli.output import data, document

if TYPE_CHECKING:
    from collapse_sim.ui.standing import Standing


def status(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run directory, or the name of a run below ./runs.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print where a run stands.

    What is done, the latest values, who is at it, and the command that continues it.
    """
    from collapse_sim.store.rundir import find_run
    from collapse_sim.ui.standing import standing

    found = standing(find_run(run))
    if json:
        document(as_json(found))
    else:
        print_frame(found)


def print_frame(found: Standing) -> None:
    """The dashboard's picture on stdout, as wide as the terminal and as high as it needs."""
    import sys

    from rich.console import Console

    from collapse_sim.printable import Clean
    from collapse_sim.ui.frame import frame

    console = Console(file=sys.stdout, highlight=False)
    with console.capture() as capture:
        console.print(frame(found.state, console.width, 200, remark(found)))
    data(Clean(capture.get()))
    if found.word not in ("finished", "running"):
        data(f" continue: {found.command}")  # whole, however long, so that it can be copied


def remark(found: Standing) -> str:
    """How the run stands, in a sentence; "" while it runs."""
    state = found.state
    complete = sum(state.complete(cell) for cells in state.cells.values() for cell in cells)
    cells = f"{complete} of {len(state.cells) * (state.generations + 1)} cells (arm x generation) are done"
    gone = f"process {state.pid} on {state.host} is gone"
    message = f": {state.message}" if state.message else ""
    return {
        "running": "",
        "finished": f"finished: {cells}",
        "interrupted": f"interrupted: {cells}{message}",
        "failed": f"failed: {cells}{message}",
        "stopped": f"stopped: {gone}; {cells}",
        "unfinished": f"unfinished: {cells}",
        "not started": "nothing is done yet",
    }[found.word]


def as_json(found: Standing) -> dict[str, Any]:
    """The same for programs; values are means over seeds."""
    from collapse_sim.ui.layout import series

    state = found.state
    spelt = state.to_json()
    arms = {}
    for arm, cells in state.cells.items():
        latest = {}
        for metric in state.metrics:
            known = [(k, x) for k, x in enumerate(series(state, arm, metric)) if x is not None]
            if known:
                k = known[-1][0]
                latest[metric] = {"generation": k, "mean": spelt["scores"][arm][metric][k]}
        arms[arm] = {"generations_done": sum(state.complete(cell) for cell in cells), "latest": latest}
    process = {"pid": state.pid, "host": state.host, "running": found.word == "running"} if state.pid else None
    return {
        "schema": 1,
        "run": state.name,
        "directory": state.run_dir,
        "status": found.word,
        "generations": state.generations + 1,
        "seeds": state.seeds,
        "arms": arms,
        "process": process,
        "job": spelt["job"],
        "continue": None if found.word == "finished" else found.command,
    }
