"""A thread that does one thing now and then, and never harms the run."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Ticker:
    """Calls `tick` every `every_s` seconds until `stop`. An exception ends the ticking and is handed to `on_error`.

    `tick` returns how long to wait at least before the next call, so that something slow can ask for more rest.
    """

    def __init__(self, tick: Callable[[], float], every_s: float, on_error: Callable[[Exception], None]) -> None:
        self._tick, self._every_s, self._on_error = tick, every_s, on_error
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="collapse-sim-display")

    def start(self) -> None:
        """Begin; the first call comes after one period."""
        self._thread.start()

    def stop(self) -> None:
        """End, after a call under way."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        wait = self._every_s
        try:
            while not self._over.wait(wait):
                wait = max(self._every_s, self._tick())
        except Exception as error:
            self._on_error(error)
