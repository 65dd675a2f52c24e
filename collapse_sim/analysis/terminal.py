"""Tables and lines as text for stdout: on a terminal coloured and as wide as it, otherwise plain and unlimited."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.table import Table

from collapse_sim.core.printable import Clean
from collapse_sim.ui.escapes import Cleaned, clean

_UNBOUNDED = 10_000  # characters; wrapped_tables.blocks has already fitted the tables


def stdout_width() -> int | None:
    """Characters per line; None if stdout is not a terminal and COLUMNS is not set."""
    if not (sys.stdout is not None and sys.stdout.isatty()) and not os.environ.get("COLUMNS", "").isdecimal():
        return None
    return Console(file=sys.stdout).width


def rendered(parts: Iterable[RenderableType], width: int | None) -> Clean:
    """The parts one below the other; strings are plain text without markup. Terminal control characters are escaped.

    Coloured only on a terminal with colours (not with NO_COLOR or TERM=dumb).
    """
    console = Console(file=sys.stdout, width=_UNBOUNDED, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        for part in parts:
            wide = width is None or isinstance(part, Table)
            console.print(clean(part) if isinstance(part, str) else Cleaned(part), width=None if wide else width)
    return Clean("\n".join(line.rstrip() for line in capture.get().splitlines()))
