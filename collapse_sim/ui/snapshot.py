"""The run's state in RUN/live.json, for `watch` and `status` in another terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from collapse_sim.core.errors import StoreError
from collapse_sim.core.files import write_atomic
from collapse_sim.store import sealed
from collapse_sim.store.run_directory import LIVE_FILE
from collapse_sim.ui.ticker import Ticker

PERIOD_S = 0.5
HEARTBEAT_S = 5.0  # written even if nothing happened: other machines have no other sign of life


class Snapshot:
    """Writes the JSON that `read` returns if `stale`, at most twice a second, and at the end."""

    def __init__(self, folder: Path, read: Callable[[], dict[str, Any]], on_error: Callable[[Exception], None]) -> None:
        self.stale = True
        self._path = folder / LIVE_FILE
        self._read = read
        self._written = 0.0
        self._ticker = Ticker(self._tick, PERIOD_S, on_error)

    def start(self) -> None:
        """Write the first snapshot."""
        self.write()
        self._ticker.start()

    def stop(self) -> None:
        """Write the last snapshot."""
        self._ticker.stop()
        self.write()

    def write(self) -> None:
        """Replace live.json. A full disk or a missing folder only loses the snapshot."""
        self.stale = False
        self._written = time.monotonic()
        with contextlib.suppress(StoreError, FileNotFoundError):
            write_atomic(self._path, sealed.text(self._read()), durable=False)

    def _tick(self) -> float:
        if self.stale or time.monotonic() - self._written > HEARTBEAT_S:
            self.write()
        return 0.0
