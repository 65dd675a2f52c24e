"""A run that is starting and does not own its directory yet: reading the recipe and importing torch takes seconds.

RUN/starting.json shows this to `status` and `watch`. It is the only file that is written before everything is checked.
It is removed at the end of the run, or after an error that prevents the start, together with empty folders made for it.
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

UNHEARD_S = 60.0  # a process on another machine is considered starting for so long, plus SILENT_S
_CHECK = record(
    schema=count, name=text, pid=process_number, host=text, process_started=optional(amount), started=amount
)


@contextlib.contextmanager
def starting(folder: Path | None, name: str) -> Iterator[None]:
    """Record in the run directory, if it is known and writable, that this process is starting the run."""
    new_folders: list[Path] = []
    path = folder / STARTING_FILE if folder is not None else None
    written = False
    if folder is not None and path is not None and read_starting(folder) is None:
        state = State(name=name, started=time.time())
        live_process.sign(state)
        content = {"schema": 1, "name": name, "started": state.started, "pid": state.pid, "host": state.host}
        with contextlib.suppress(OSError, CollapseSimError, ValueError):
            check_place(folder, "--out")
            new_folders = _absent(folder)
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(content | {"process_started": state.process_started}), durable=False)
            written = True
    try:
        yield
    finally:
        if written and path is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        for new_folder in new_folders:
            with contextlib.suppress(OSError):
                new_folder.rmdir()  # fails if it is not empty any more


def read_starting(folder: Path) -> State | None:
    """The process that is starting the run in a folder, as a state with nothing done; None if there is none."""
    try:
        content = _CHECK(read_json(folder / STARTING_FILE))
    except (OSError, ValueError, KeyError, RecursionError):
        return None
    state = State(name=content["name"], run_dir=str(folder), started=content["started"], updated=content["started"])
    state.pid, state.host, state.process_started = content["pid"], content["host"], content["process_started"]
    state.updated = content["started"] + UNHEARD_S
    if live_process.presence(state) != "here":
        return None
    state.updated = None
    return state


def _absent(folder: Path) -> list[Path]:
    """A folder and its parents, as far as they do not exist, innermost first."""
    absent = []
    place = folder
    while not os.path.lexists(place):
        absent.append(place)
        place = place.parent
    return absent
