"""`watch RUN`: the live dashboard of a run that another terminal or machine is at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from collapse_sim.cli.examples import complete_run
from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.ui.console import is_terminal, say

if TYPE_CHECKING:
    from pathlib import Path

    from collapse_sim.ui.run_status import RunStatus

POLL_S = 0.5


def watch(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run directory, or the name of a run below ./runs.", autocompletion=complete_run
        ),
    ],
    once: Annotated[bool, typer.Option("--once", help="Print one picture on stdout and end.")] = False,
) -> None:
    """Draw the live dashboard of a run until the run ends.

    Exit code 0 when the run is finished, and after Ctrl-C, which ends the watching and not the run; 130 when the run
    stopped before its end, with the command that continues it.
    """
    from collapse_sim.cli.status_command import print_frame
    from collapse_sim.store.run_directory import find_run
    from collapse_sim.ui.run_status import run_status

    folder = find_run(run, starting=True)
    for problem in run_status(folder).problems:
        say(f"warning: {problem}")
    if once:
        print_frame(run_status(folder))
        return
    try:
        found = _draw(folder) if is_terminal() else _tell(folder)
    except KeyboardInterrupt:
        return
    if found.word != "finished":
        raise InterruptedRunError(f"the run is {found.word}; the same command continues it:\n  {found.command}")


def _draw(folder: Path) -> RunStatus:
    """Redraw until the run ends; returns how it stands then."""
    import time

    from collapse_sim.cli.status_command import remark
    from collapse_sim.ui.dashboard import Dashboard
    from collapse_sim.ui.run_status import live_status

    found = live_status(folder)
    dashboard = Dashboard(lambda: found.state, lambda error: say(f"warning: drawing failed: {error!r}"))
    dashboard.remark = remark(found)
    dashboard.start()
    try:
        while not found.ended:
            time.sleep(POLL_S)
            found = live_status(folder)
            dashboard.remark = remark(found)
            dashboard.stale = True
    finally:
        dashboard.stop()
    return found


def _tell(folder: Path) -> RunStatus:
    """Off a terminal: one line a generation until the run ends; returns how it stands then."""
    import time

    from collapse_sim.ui.lines import generation_line
    from collapse_sim.ui.run_status import live_status

    told = -1
    while True:
        found = live_status(folder)
        for k in sorted(found.state.finished):
            if k > told:
                say(generation_line(found.state, k))
                told = k
        if found.ended:
            return found
        time.sleep(POLL_S)
