"""Standard output and standard error that cannot end a run: what can't be written any more is dropped, and remembered.

A terminal that is closed, a pipe without a reader, a full disk below a log, a stream that was closed from the start:
progress is not the work, so the work goes on.
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
    """Why a stream is written to no longer. `unread`: its reader has gone, as `head` does, and wants no more."""

    reason: str
    unread: bool = False


lost: dict[Name, Loss] = {}


def endure() -> None:
    """Make this process's standard streams enduring; what no terminal font or encoding has is escaped."""
    _fill()
    for number, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        if not isinstance(old, io.TextIOWrapper):
            continue  # not a file of the system: a notebook's, a test's
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
    """Remember that a stream cannot be written to."""
    reason = getattr(error, "strerror", None) or str(error)
    lost.setdefault(name, Loss(reason, getattr(error, "errno", None) == errno.EPIPE))


class _Enduring(io.FileIO):
    """The system's stream 1 or 2."""

    def write(self, data: memoryview | bytes, /) -> int:  # type: ignore[override]
        try:
            while (written := super().write(data)) is None:  # another program has made the terminal non-blocking
                select.select([], [self], [], 1.0)
        except OSError as error:
            note_loss("stdout" if self.fileno() == 1 else "stderr", error)
            self._go_nowhere()
            return len(data)
        return written

    def _go_nowhere(self) -> None:
        """Also for what libraries write without Python; where it cannot be, every write fails and is dropped."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)


def _fill() -> None:
    """Put the null device where a standard stream is closed.

    Otherwise the next file that is opened, an artefact maybe, gets its number, and with it what libraries write there.
    """
    names = ("stdin", "stdout", "stderr")
    for number in range(len(names)):  # all of them before anything else is opened
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
    for number, name in enumerate(names):
        if getattr(sys, name) is not None:
            continue
        if number:
            lost[name] = Loss("it is closed")  # type: ignore[index]
        nothing = Path(os.devnull).open("w" if number else "r", encoding="utf-8")  # noqa: SIM115 - to the process's end
        setattr(sys, name, nothing)
