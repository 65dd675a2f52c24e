"""What the driver of a run on Ray and its workers tell each other: orders, outcomes, events."""

from __future__ import annotations

import pickle
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from collapse_sim.core.events import Event
from collapse_sim.engine.programs import Mode

SEND_S = 0.25  # between two messages to the driver
KEPT_REPORTS = 100_000  # events that the driver has not taken yet
JobKey = tuple[str, tuple[int, ...], tuple[str, ...]]  # digest, seeds, arms


@dataclass(frozen=True)
class WorkOrder:
    """What workers have to know of a run."""

    document: Mapping[str, Any]  # the recipe, with its precisions resolved
    plugins: bool | None
    folder: str  # the driver's working directory, from which the recipe's paths start
    paths: tuple[str, ...]  # its sys.path
    variables: Mapping[str, str]  # of its environment
    program: str  # versions
    plan: str  # hash of all keys
    store: Path
    data_dir: Path
    mark: tuple[str, str]  # a file in the store, and its content
    device: str  # "cpu", "cuda"
    checkpoint_s: float
    together: int  # the most fits that are computed together
    compiled: Mode


@dataclass
class Outcome:
    """How a task went."""

    made: list[tuple[str, int]] = field(default_factory=list)  # (digest, seed) of what was made, -1: for all seeds
    failed: list[tuple[JobKey, Exception]] = field(default_factory=list)  # its own and those that it was told of
    events: list[Event] = field(default_factory=list)  # that were not sent yet
    where: tuple[str, int] = ("", 0)  # node, process
    ended: Exception | None = None  # what ends the run
    signal: int = 0  # the task was asked to stop


class NodeReport(NamedTuple):
    """Events of a process on a node."""

    node: str
    process: int
    events: list[Event]


class Exchange:
    """An actor on the driver's node: workers leave reports there, and ranks their addresses."""

    def __init__(self) -> None:
        self._reports: deque[NodeReport] = deque(maxlen=KEPT_REPORTS)
        self._notes: dict[str, tuple[str, int]] = {}

    def put(self, report: NodeReport) -> None:
        self._reports.append(report)

    def take(self) -> list[NodeReport]:
        """All reports since the last call."""
        reports = list(self._reports)
        self._reports.clear()
        return reports

    def post(self, name: str, address: tuple[str, int]) -> None:
        self._notes[name] = address

    def read(self, name: str) -> tuple[str, int] | None:
        return self._notes.get(name)


class Reporting:
    """Sends events while a task runs; `rest` are those that are left at its end."""

    def __init__(self, send: Callable[[list[Event]], None]) -> None:
        self._send, self._lock, self._over = send, threading.Lock(), threading.Event()
        self._events: list[Event] = []
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)

    def emit(self, event: Event) -> None:
        with self._lock:
            self._events.append(event)

    def rest(self) -> list[Event]:
        with self._lock:
            events, self._events = self._events, []
        return events

    def __enter__(self) -> Reporting:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(SEND_S):
            if events := self.rest():
                self._send(events)


def portable(error: Exception) -> Exception:
    """The error, or one like it: many exceptions of libraries cannot be copied to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
