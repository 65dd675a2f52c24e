"""The live dashboard: redraws the frame in place, in a thread of its own, and leaves the last one standing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live

from collapse_sim.ui.frame import frame
from collapse_sim.ui.state import State
from collapse_sim.ui.ticker import Ticker

LEAST_PERIOD_S = 0.15  # so at most seven pictures a second
CLOCK_S = 1.0  # the clock moves even if nothing else does
LARGEST_SHARE = 0.04  # of the time, spent on drawing


class Dashboard:
    """Draws what `read` gives, on stderr. `stale` says that something happened since the last picture."""

    def __init__(self, read: Callable[[], State], on_error: Callable[[Exception], None]) -> None:
        self.console = Console(stderr=True)
        self.stale = True
        self.remark = ""
        self._read = read
        self._on_error = on_error
        self._drawn = 0.0
        self._size = self.console.size
        self._live = self._new_live()
        self._ticker = Ticker(self._tick, LEAST_PERIOD_S, on_error)

    def _new_live(self) -> Live:
        return Live(
            console=self.console,
            auto_refresh=False,
            redirect_stdout=sys.stdout.isatty(),  # a print in between goes above the picture, data to a file stays data
            redirect_stderr=True,
            vertical_overflow="crop",
        )

    def start(self) -> None:
        """Show the first picture."""
        self._live.start()
        self.draw()
        self._ticker.start()

    def stop(self) -> None:
        """Draw the last picture, leave it standing, give the cursor back."""
        self._ticker.stop()
        try:
            self.draw()
        finally:
            self._live.stop()

    def draw(self) -> None:
        """One picture, now. After a change of the window's size the screen is begun anew."""
        if self.console.size != self._size:
            self._size = self.console.size
            self._live.stop()
            self.console.clear()
            self._live = self._new_live()
            self._live.start()
        self.stale = False
        self._drawn = time.monotonic()
        width, height = self._size
        self._live.update(frame(self._read(), width, max(height - 1, 1), self.remark), refresh=True)

    def _tick(self) -> float:
        if not self.stale and time.monotonic() - self._drawn < CLOCK_S:
            return 0.0
        began = time.perf_counter()
        self.draw()
        return (time.perf_counter() - began) / LARGEST_SHARE
