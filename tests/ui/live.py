"""A run that a process is at, as live.json tells it, and the commands that show it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import typer
from typer.testing import CliRunner

from collapse_sim.cli.status_command import status
from collapse_sim.cli.watch_command import watch
from collapse_sim.core.events import JobProgress, RunStarted
from collapse_sim.store import sealed
from collapse_sim.ui.state import State

app = typer.Typer()
app.command()(status)
app.command()(watch)
FIT = JobProgress("fit", "d", 2, ("accumulate",), (7,), 30, 100, "steps", 500.0, 0.25)


def call(*argv):
    result = CliRunner().invoke(app, [str(part) for part in argv])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0
    return result


def write_live(folder: Path, *events, pid: int | None = None, host: str = "", updated: float | None = None) -> None:
    state = State()
    better = {"test_loss": True, "fid": None}
    start = RunStarted(
        "demo", ("replace", "accumulate"), (0, 7), 2, ("test_loss", "fid"), better, "cuda:0", "bf16", str(folder), "fid"
    )
    for event in (start, *events):
        state.apply(event)
    state.pid, state.host = pid or os.getpid(), host or socket.gethostname()
    state.process_started = psutil.Process(state.pid).create_time() if psutil.pid_exists(state.pid) else 1.0
    state.updated = time.time() if updated is None else updated
    (folder / "live.json").write_text(sealed.text(state.to_json()))


def gone_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
