"""stdout is data, stderr is for people."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any


def data(text: str) -> None:
    """One line or block of output that another program may read."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def document(value: Any) -> None:
    """One JSON document on stdout (`--json`)."""
    data(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def say(text: str) -> None:
    """A line for a person, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class _Saying(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def say_logs(*, quiet: bool = False) -> None:
    """Say what the package logs, which is how far it has come before a run begins; `quiet`: warnings only."""
    logger = logging.getLogger("collapse_sim")
    logger.handlers = [_Saying()]
    logger.setLevel(logging.WARNING if quiet else logging.INFO)


def program(started_as: str) -> list[str]:
    """How to call this program again, from the first word of the command line that called it (sys.argv[0])."""
    import shutil
    from pathlib import Path

    path = Path(started_as)
    if path.parts[-2:] == ("collapse_sim", "__main__.py"):
        return ["python", "-m", "collapse_sim"]
    outside_path = path.name == "collapse-sim" and path.is_file() and not shutil.which("collapse-sim")
    return [started_as if outside_path else "collapse-sim"]


def is_terminal() -> bool:
    """Whether stderr is a terminal that can be drawn on (a dumb one can't)."""
    import os

    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
