"""The run's state in RUN/live.json, or another file of this process, for `watch` and `status` in another terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from collapse_sim.core.errors import StoreError
from collapse_sim.core.files import remove, write_atomic
from collapse_sim.store import sealed
from collapse_sim.store.run_directory import LIVE_FILE
from collapse_sim.ui.live_files import write_own
from collapse_sim.ui.ticker import Ticker

PERIOD_S = 0.5
HEARTBEAT_S = 5.0  # written even if nothing happened: other machines have no other sign of life


class Snapshot:
    """Writes the JSON that `read` returns if `stale`, at most twice a second, and at the end."""

    def __init__(self, folder: Path, read: Callable[[], dict[str, Any]], on_error: Callable[[Exception], None]) -> None:
        self.stale = True
        self._folder = folder
        self._path = folder / LIVE_FILE
        self._read = read
        self._written = 0.0
        self._ticker = Ticker(self._tick, PERIOD_S, on_error)

    def start(self) -> None:
        """Write the first snapshot, to live.json unless another process that is at work has it."""
        self._path = write_own(self._folder, self._write_to)
        self._ticker.start()

    def stop(self) -> None:
        """Write the last snapshot."""
        self._ticker.stop()
        self._path = write_own(self._folder, self._write_to)
        if self._path.name != LIVE_FILE:  # others go on; what this process did is in the journal
            remove(self._path)

    def write(self) -> None:
        """Replace the file. A full disk or a missing folder only loses the snapshot."""
        self._write_to(self._path)

    def _write_to(self, path: Path) -> None:
        self.stale = False
        self._written = time.monotonic()
        with contextlib.suppress(StoreError, FileNotFoundError):
            write_atomic(path, sealed.text(self._read()), durable=False)

    def _tick(self) -> float:
        if self.stale or time.monotonic() - self._written > HEARTBEAT_S:
            self.write()
        return 0.0
