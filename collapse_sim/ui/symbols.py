"""The dashboard's symbols: one set for UTF-8, one for ASCII terminals."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from collapse_sim.ui import palette


@dataclass(frozen=True)
class Symbols:
    """Symbols, each one column wide."""

    todo: str
    part: str  # from little to nearly all
    running: str
    done: str
    reused: str
    spark: str  # from low to high
    bad: str  # a value that is not finite
    bar: str
    bar_rest: str
    more_left: str
    more_right: str
    lower: str  # is better
    higher: str
    dot: str
    cut: str
    note: str

    def legend(self) -> list[tuple[str, str, str]]:
        """(symbol, style, meaning) of the cells."""
        return [
            (self.done, palette.DONE, "done"),
            (self.reused, palette.REUSED, "found"),
            (self.running, palette.RUNNING, "under way"),
            (self.part[1], palette.RUNNING, "in part"),
            (self.todo, "dim", "to do"),
        ]

    def fit(self, text: str, width: int) -> str:
        """Exactly `width` columns: padded, or cut and marked as cut."""
        if cell_len(text) <= width:
            return set_cell_size(text, width)
        return set_cell_size(text, max(width - 1, 0)) + self.cut if width > 0 else ""

    def right(self, text: str, width: int) -> str:
        """Exactly `width` columns, right-aligned."""
        return " " * (width - cell_len(text)) + text if cell_len(text) <= width else self.fit(text, width)


UNICODE = Symbols(
    todo="·", part="◔◑◕", running="▸", done="●", reused="○", spark="▁▂▃▄▅▆▇█", bad="×", bar="━", bar_rest="━",
    more_left="‹", more_right="›", lower="↓", higher="↑", dot="·", cut="…", note="!",
)  # fmt: skip
ASCII = Symbols(
    todo=".", part="-=+", running=">", done="#", reused="o", spark="_.-:=+*#", bad="x", bar="#", bar_rest="-",
    more_left="<", more_right=">", lower="v", higher="^", dot="-", cut="~", note="!",
)  # fmt: skip
