"""Listeners of a run: the dashboard on a terminal, otherwise lines, and the snapshot. None can stop the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.core.events import Emit, Event, Note, RunFinished, RunStarted
from collapse_sim.ui import live_process, streams
from collapse_sim.ui.console import is_terminal, say
from collapse_sim.ui.dashboard import Dashboard
from collapse_sim.ui.lines import Lines, note_line
from collapse_sim.ui.snapshot import Snapshot
from collapse_sim.ui.state import State

MEASURE_S = 1.0
Outcome = Literal["interrupted", "failed"]
Display = Callable[[Event], None]  # shows one event, after the state has applied it
MakeDisplay = Callable[[State], Display]  # of the state that it shows


class Listeners:
    """`with listeners(run_dir, ...) as emit:` returns the callable that takes a run's events.

    The dashboard is shown if stderr is a terminal with cursor control, unless `quiet`, `verbose` (a line per job,
    which a dashboard would hide) or `json` is set; otherwise lines are printed. `display` takes the place of both. The
    first exception in a listener is reported, later ones are not.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        quiet: bool = False,
        verbose: bool = False,
        json: bool = False,
        display: MakeDisplay | None = None,
    ) -> None:
        self.state = State()
        self._lock = threading.Lock()
        self._measured = 0.0
        draw = display is None and is_terminal() and not (quiet or verbose or json)
        self._dashboard = Dashboard(self._copy, self._failed) if draw else None
        self._lines: Display | None = None
        if not draw:
            self._lines = display(self.state) if display else Lines(self.state, quiet=quiet, verbose=verbose)
        self._snapshot = Snapshot(run_dir, self._json, self._failed)
        self._started = False
        self._failure_reported = False

    def __enter__(self) -> Emit:
        return self.emit

    def emit(self, event: Event) -> None:
        """Handle one event: takes microseconds, never raises."""
        try:
            with self._lock:
                self.state.apply(event)
            if isinstance(event, RunStarted):
                self._start()
            self._snapshot.stale = True
            if self._lines is not None:
                self._lines(event)
            elif self._dashboard is not None:
                self._dashboard.stale = True
                if isinstance(event, Note) and not self._started:
                    say(note_line(event.message, event.level))  # the dashboard has not started, and may never start
        except Exception as error:
            self._failed(error)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._started:
            return
        if self.state.outcome is None and error is not None:
            outcome: Outcome = "interrupted" if isinstance(error, KeyboardInterrupt | InterruptedRunError) else "failed"
            wall_s = time.time() - (self.state.started or time.time())
            with self._lock:
                self.state.apply(RunFinished(self.state.name, self.state.run_dir, wall_s, outcome, str(error)))
        loss = streams.losses.get("stderr")
        if loss is not None:
            note = f"standard error could not be written to ({loss.reason}): later messages are missing there"
            with self._lock:
                self.state.apply(Note(note))
        for listener in (self._dashboard, self._snapshot):
            try:
                if listener is not None:
                    listener.stop()
            except Exception as failure:
                self._failed(failure)

    def _start(self) -> None:
        live_process.sign(self.state)
        if not self._started:
            self._started = True
            self._snapshot.start()
            if self._dashboard is not None:
                self._dashboard.start()

    def _json(self) -> dict[str, Any]:
        """The current state as JSON."""
        with self._lock:
            self.state.updated = time.time()
            if time.monotonic() - self._measured > MEASURE_S:
                self._measured = time.monotonic()
                live_process.measure(self.state)
            return self.state.to_json()

    def _copy(self) -> State:
        """A copy for drawing in another thread, made in the way that `watch` reads it."""
        return State.from_json(self._json())

    def _failed(self, error: Exception) -> None:
        if not self._failure_reported:
            self._failure_reported = True
            say(f"warning: the display failed, the run itself continues: {error!r}")


def listeners(
    run_dir: Path,
    *,
    quiet: bool = False,
    verbose: bool = False,
    json: bool = False,
    display: MakeDisplay | None = None,
) -> Listeners:
    """The listeners of the run in `run_dir`."""
    return Listeners(run_dir, quiet=quiet, verbose=verbose, json=json, display=display)
