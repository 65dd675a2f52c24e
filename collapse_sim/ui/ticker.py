"""A thread that calls a function periodically and never disturbs the run."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Ticker:
    """Calls `tick` every `every_s` seconds until `stop`. An exception ends the calls and is passed to `on_error`.

    `tick` returns the minimum wait before the next call, in seconds, so that a slow function is called less often.
    """

    def __init__(self, tick: Callable[[], float], every_s: float, on_error: Callable[[Exception], None]) -> None:
        self._tick, self._every_s, self._on_error = tick, every_s, on_error
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="collapse-sim-display")

    def start(self) -> None:
        """Start; the first call comes after one period."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, after a running call has ended."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        wait = self._every_s
        try:
            while not self._stopped.wait(wait):
                wait = max(self._every_s, self._tick())
        except Exception as error:
            self._on_error(error)
