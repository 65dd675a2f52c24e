"""Tables and lines as text for stdout: coloured and as wide as the terminal, plain and as wide as needed off one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.table import Table

from collapse_sim.core.printable import Clean
from collapse_sim.ui.escapes import Cleaned, clean

_UNBOUNDED = 10_000  # characters; layout.blocks has fitted the tables already


def stdout_width() -> int | None:
    """Characters a line; None when stdout is neither a terminal nor has a width by COLUMNS."""
    if not (sys.stdout is not None and sys.stdout.isatty()) and not os.environ.get("COLUMNS", "").isdecimal():
        return None
    return Console(file=sys.stdout).width


def rendered(parts: Iterable[RenderableType], width: int | None) -> Clean:
    """The parts below each other; strings are taken as they are, without markup. Nothing in them steers a terminal.

    Colours only on a terminal that has them (NO_COLOR and TERM=dumb: none).
    """
    console = Console(file=sys.stdout, width=_UNBOUNDED, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        for part in parts:
            wide = width is None or isinstance(part, Table)
            console.print(clean(part) if isinstance(part, str) else Cleaned(part), width=None if wide else width)
    return Clean("\n".join(line.rstrip() for line in capture.get().splitlines()))
