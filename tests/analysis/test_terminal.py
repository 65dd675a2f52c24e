"""Tables as text for a terminal."""

from __future__ import annotations

import io
import sys

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from collapse_sim.analysis.terminal import rendered
from collapse_sim.core import printable
from tests.core.test_printable import steers


def test_tables_keep_our_styles_and_columns_and_nothing_else(monkeypatch):
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    table = Table(title="t\x1b[5m")
    table.add_column("a\x1b[2J")
    table.add_column(Text("b", style="red"))
    table.add_row(Text("x\u202ey\x9b", style="bold green"), "z\x7f")
    table.add_row("plain", "w")
    text = rendered([table, "s\x1b[31m", Text("u\x9bv", style="red"), Padding("p\x1b", (0, 0, 0, 2))], 80)
    assert isinstance(text, printable.Clean)
    assert "\x1b[1;32mx\\u202ey\\x9b" in text  # bold green
    bare = Text.from_ansi(text).plain
    assert not any(steers(sign) for sign in bare)
    assert r"t\x1b[5m" in bare
    assert r"s\x1b[31m" in bare
    assert r"u\x9bv" in bare
    assert r"p\x1b" in bare
    assert len({row.index("│", 2) for row in bare.splitlines() if row.startswith("│")}) == 1
