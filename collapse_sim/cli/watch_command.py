"""`watch RUN`: the live dashboard of a run in another terminal or on another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from collapse_sim.cli.options import RunArgument
from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.ui.console import is_terminal, say

if TYPE_CHECKING:
    from pathlib import Path

    from collapse_sim.ui.run_status import RunStatus

POLL_S = 0.5


def watch(
    run: RunArgument,
    once: Annotated[bool, typer.Option("--once", help="Print the dashboard once on stdout and exit.")] = False,
) -> None:
    """Show the live dashboard of a run until the run ends.

    Exit code 0 when the run is finished, and after Ctrl-C, which ends this command but not the run; 130 when the run
    stopped early: then the command that continues it is printed.
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
        status = _draw(folder) if is_terminal() else _print_lines(folder)
    except KeyboardInterrupt:
        return
    if status.word != "finished":
        raise InterruptedRunError(f"the run is {status.word}; the same command continues it:\n  {status.command}")


def _draw(folder: Path) -> RunStatus:
    """Redraw until the run ends; returns its final status."""
    import time

    from collapse_sim.cli.status_command import remark
    from collapse_sim.ui.dashboard import Dashboard
    from collapse_sim.ui.run_status import live_status

    status = live_status(folder)
    dashboard = Dashboard(lambda: status.state, lambda error: say(f"warning: drawing failed: {error!r}"))
    dashboard.remark = remark(status)
    dashboard.start()
    try:
        while not status.ended:
            time.sleep(POLL_S)
            status = live_status(folder)
            dashboard.remark = remark(status)
            dashboard.stale = True
    finally:
        dashboard.stop()
    return status


def _print_lines(folder: Path) -> RunStatus:
    """Without a terminal: print one line per generation until the run ends; returns its final status."""
    import time

    from collapse_sim.ui.lines import generation_line
    from collapse_sim.ui.run_status import live_status

    last_printed = -1
    while True:
        status = live_status(folder)
        for k in sorted(status.state.finished):
            if k > last_printed:
                say(generation_line(status.state, k))
                last_printed = k
        if status.ended:
            return status
        time.sleep(POLL_S)
