"""The live dashboard: redraws the frame in place, in its own thread, and leaves the last one on the screen."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live

from collapse_sim.ui.frame import frame
from collapse_sim.ui.state import State
from collapse_sim.ui.ticker import Ticker

LEAST_PERIOD_S = 0.15  # so at most seven frames per second
CLOCK_S = 1.0  # redraw for the clock even if nothing else changes
LARGEST_SHARE = 0.04  # largest share of the time spent on drawing


class Dashboard:
    """Draws the state that `read` returns on stderr. `stale`: something has happened since the last frame."""

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
            redirect_stdout=sys.stdout.isatty(),  # prints go above the frame; output to a file is left alone
            redirect_stderr=True,
            vertical_overflow="crop",
        )

    def start(self) -> None:
        """Show the first frame."""
        self._live.start()
        self.draw()
        self._ticker.start()

    def stop(self) -> None:
        """Draw the last frame, leave it on the screen, and restore the cursor."""
        self._ticker.stop()
        try:
            self.draw()
        finally:
            self._live.stop()

    def draw(self) -> None:
        """Draw one frame now. If the window size has changed, clear the screen first."""
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
