"""Where the processes of a run show their states: live.json is the first one's, live-TOKEN.json each further one's.

A further process moves to live.json at its end, if no other has it then, so that the last word of a run is there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import Timeout

from collapse_sim.core.errors import StoreError
from collapse_sim.core.files import children, remove
from collapse_sim.store import sealed
from collapse_sim.store.lease import owner_of, token
from collapse_sim.store.machine_lock import MachineLock
from collapse_sim.store.run_directory import LIVE_FILE, LOCK_FILE
from collapse_sim.ui.checked import LARGEST_FILE
from collapse_sim.ui.live_process import presence
from collapse_sim.ui.state import State

WAIT_S = 5.0  # for the lock of the run directory; without it, two processes may write to live.json in turn


def read_live(path: Path) -> State | None:
    """The state that a process wrote last; None if there is none or it cannot be read."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            return None
        return State.from_json(sealed.read(path))
    except (OSError, ValueError):
        return None


def live_states(folder: Path) -> list[State]:
    """The states of the processes at work; if there is none, that of live.json, whose process has ended or is gone."""
    first, others = read_live(folder / LIVE_FILE), [read_live(path) for path in _further(folder)]
    states = [state for state in (first, *others) if state is not None and presence(state) == "here"]
    return states or ([] if first is None else [first])


def write_own(folder: Path, write: Callable[[Path], None]) -> Path:
    """Call `write` with the file that is this process's from now on, while no other process chooses. Returns it.

    Files of further processes that are gone are removed.
    """
    lock = MachineLock(folder / LOCK_FILE, "--out")
    locked = False
    with suppress(StoreError, OSError, Timeout):
        lock.acquire(timeout=WAIT_S)
        locked = True
    try:
        for path in _further(folder):
            state = read_live(path)
            if owner_of(path.name) == token() or state is None or presence(state) != "here":
                remove(path)
        first = read_live(folder / LIVE_FILE)
        free = first is None or presence(first) != "here" or _is_own(first)
        own = folder / (LIVE_FILE if free else f"live-{token()}.json")
        write(own)
    finally:
        if locked:
            lock.release()
    return own


def _is_own(state: State) -> bool:
    return state.pid == os.getpid() and state.host == socket.gethostname()


def _further(folder: Path) -> list[Path]:
    return [path for path in children(folder) if path.name == f"live-{owner_of(path.name)}.json"]
