"""Output to stdout (data) and stderr (messages). All output of this program goes through here and is escaped."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from typing import Any, TextIO

from collapse_sim.core import printable
from collapse_sim.core.errors import StoreError
from collapse_sim.ui import streams

_ASCII = str.maketrans({"±": "+/-", "─": "-", "✓": "+", "✗": "x", "↓": "v", "↑": "^", "…": "..."})
_speaker: list[str] = []  # before each message: which of several processes it is from
_needed: set[str] = set()  # streams that the command's main output goes to


def data(text: str, *, needed: bool = True) -> None:
    """Write text for other programs to stdout. `needed`: it is the command's main output."""
    if needed:
        _needed.add("stdout")
    text = printable.escaped(text)
    _write("stdout", text if text.endswith("\n") else text + "\n")


def document(value: Any, *, needed: bool = True) -> None:
    """Write one JSON document to stdout (`--json`)."""
    text = printable.json_text(value, indent=2)
    data(printable.Clean(text if _encodable(text, sys.stdout) else json.dumps(value, indent=2)), needed=needed)


def say(text: str) -> None:
    """Write a message for the user to stderr."""
    names = "".join(f"{name}: " for name in _speaker if name not in text)
    _write("stderr", printable.message(names + text) + "\n")


def say_as(name: str) -> None:
    """Begin all messages of this process with a name; those that contain it stay as they are. "": not any more."""
    _speaker[:] = [name] if name else []


def exit_code(code: int) -> int:
    """The exit code of a command that would end with `code`. Reports output that could not be written, if possible.

    If the reader closed the pipe, as `head` does, that is no error. Otherwise the exit code is 5 if the command's main
    output could not be written. The results of a run are in files, so its exit code stays the same.
    """
    loss, needed = streams.losses.get("stdout"), "stdout" in _needed
    streams.losses.clear()
    _needed.clear()
    if loss is None or (loss.unread and needed):
        return code
    say(f"{'error' if needed else 'note'}: standard output could not be written to: {loss.reason}")
    return code or (StoreError.exit_code if needed else 0)


def say_warnings() -> None:
    """Print warnings of Python and of libraries by `say`."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        say(f"{filename}:{lineno}: {category.__name__}: {message}")

    warnings.showwarning = show


def _write(name: streams.Name, text: str) -> None:
    stream: TextIO | None = getattr(sys, name)
    if stream is None:
        streams.losses.setdefault(name, streams.Loss("it is closed"))
        return
    if not _encodable(text, stream):
        encoding = stream.encoding
        text = text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError) as error:
        streams.note_loss(name, error)


def _encodable(text: str, stream: TextIO | None) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


class _SayHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def say_logs(*, quiet: bool = False) -> None:
    """Print the package's log, which shows progress before a run begins; `quiet`: warnings only."""
    logger = logging.getLogger("collapse_sim")
    logger.handlers = [_SayHandler()]
    logger.setLevel(logging.WARNING if quiet else logging.INFO)


def program(started_as: str) -> list[str]:
    """The command that starts this program again, from the first word of its command line (sys.argv[0])."""
    import shutil
    from pathlib import Path

    path = Path(started_as)
    if path.parts[-2:] == ("collapse_sim", "__main__.py"):
        return ["python", "-m", "collapse_sim"]
    outside_path = path.name == "collapse-sim" and path.is_file() and not shutil.which("collapse-sim")
    return [started_as if outside_path else "collapse-sim"]


def is_terminal() -> bool:
    """Whether stderr is a terminal with cursor control (not TERM=dumb)."""
    import os

    try:
        return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
    except ValueError:  # stderr is closed
        return False
