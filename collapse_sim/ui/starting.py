"""A run that has been asked for and is not claimed yet: its recipe is read and torch is imported, for seconds.

RUN/starting.json tells `status` and `watch` so. It is the only file that is written before everything is checked. It
goes away with the run, or with the error that kept it from beginning, and with it the folders that were made for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from collapse_sim.core.errors import CollapseSimError
from collapse_sim.core.files import check_place, write_atomic
from collapse_sim.store.run_directory import STARTING_FILE
from collapse_sim.ui import live_process
from collapse_sim.ui.checked import amount, count, optional, read_json, record, text
from collapse_sim.ui.checked import process as process_number
from collapse_sim.ui.state import State

UNHEARD_S = 60.0  # a process on another machine is taken to be starting for so long, and a while more
_CHECK = record(
    schema=count, name=text, pid=process_number, host=text, process_started=optional(amount), started=amount
)


@contextlib.contextmanager
def starting(folder: Path | None, name: str) -> Iterator[None]:
    """Say in a run's directory that this process is about to begin, if there is one and it can be written to."""
    made: list[Path] = []
    path = folder / STARTING_FILE if folder is not None else None
    mine = False
    if folder is not None and path is not None and read_starting(folder) is None:
        state = State(name=name, started=time.time())
        live_process.sign(state)
        content = {"schema": 1, "name": name, "started": state.started, "pid": state.pid, "host": state.host}
        with contextlib.suppress(OSError, CollapseSimError, ValueError):
            check_place(folder, "--out")
            made = _absent(folder)
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(content | {"process_started": state.process_started}), durable=False)
            mine = True
    try:
        yield
    finally:
        if mine and path is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()  # unless there is something in it by now


def read_starting(folder: Path) -> State | None:
    """Who is starting the run in a folder, if anybody is, as a state with nothing done."""
    try:
        found = _CHECK(read_json(folder / STARTING_FILE))
    except (OSError, ValueError, KeyError, RecursionError):
        return None
    state = State(name=found["name"], run_dir=str(folder), started=found["started"], updated=found["started"])
    state.pid, state.host, state.process_started = found["pid"], found["host"], found["process_started"]
    state.updated = found["started"] + UNHEARD_S
    if live_process.presence(state) != "here":
        return None
    state.updated = None
    return state


def _absent(folder: Path) -> list[Path]:
    """A folder and those above it, as far as they are not there, innermost first."""
    absent = []
    place = folder
    while not os.path.lexists(place):
        absent.append(place)
        place = place.parent
    return absent
