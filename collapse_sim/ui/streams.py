"""Standard streams that cannot end a run: output that cannot be written is dropped, and the failure is recorded.

Examples: a closed terminal, a pipe without a reader, a full disk below a log file, a stream that was closed from the
start. Progress output is not the work itself, so the run continues.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Name = Literal["stdout", "stderr"]


@dataclass(frozen=True)
class Loss:
    """Why a stream is no longer written to. `unread`: its reader has closed it, as `head` does."""

    reason: str
    unread: bool = False


losses: dict[Name, Loss] = {}


def ignore_write_errors() -> None:
    """Make this process's standard streams ignore write errors; characters that cannot be encoded are escaped."""
    _fill()
    for number, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        if not isinstance(old, io.TextIOWrapper):
            continue  # not a system file, but that of a notebook or a test
        old.flush()
        raw: Any = _Enduring(number, "wb", closefd=False)
        stream = io.TextIOWrapper(
            raw if old.write_through else io.BufferedWriter(raw),
            encoding=old.encoding,
            errors="backslashreplace",
            line_buffering=old.line_buffering,
            write_through=old.write_through,
        )
        setattr(sys, name, stream)


def note_loss(name: Name, error: OSError | ValueError) -> None:
    """Record that a stream cannot be written to."""
    reason = getattr(error, "strerror", None) or str(error)
    losses.setdefault(name, Loss(reason, getattr(error, "errno", None) == errno.EPIPE))


class _Enduring(io.FileIO):
    """File descriptor 1 or 2."""

    def write(self, data: memoryview | bytes, /) -> int:  # type: ignore[override]
        try:
            while (written := super().write(data)) is None:  # another program has made the terminal non-blocking
                select.select([], [self], [], 1.0)
        except OSError as error:
            note_loss("stdout" if self.fileno() == 1 else "stderr", error)
            self._discard()
            return len(data)
        return written

    def _discard(self) -> None:
        """Send further output, also that of C libraries, to the null device. If that fails, each write is dropped."""
        with contextlib.suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)


def _fill() -> None:
    """Open the null device in place of closed standard streams.

    Otherwise the next file that is opened, possibly an artefact, gets its descriptor, and with it what libraries write.
    """
    names = ("stdin", "stdout", "stderr")
    for number in range(len(names)):  # all of them before anything else is opened
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    for number, name in enumerate(names):
        if getattr(sys, name) is not None:
            continue
        if number:
            losses[name] = Loss("it is closed")  # type: ignore[index]
        null_file = Path(os.devnull).open("w" if number else "r", encoding="utf-8")  # noqa: SIM115 - to the process's end
        setattr(sys, name, null_file)
