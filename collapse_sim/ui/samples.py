"""Generated texts on the dashboard: of every arm's latest generation one to three, a line each."""

from __future__ import annotations

from typing import NamedTuple

from rich.text import Text

from collapse_sim.ui import formatting, palette
from collapse_sim.ui.grid_layout import GridLayout
from collapse_sim.ui.state import State
from collapse_sim.ui.symbols import Symbols

EMPTY = "(empty)"
SHARED = "all arms"


class ArmTexts(NamedTuple):
    """Texts of one arm, or of all."""

    arm: str
    style: str
    generation: int
    texts: list[str]


def samples(state: State, layout: GridLayout, width: int, room: int, symbols: Symbols) -> list[Text]:
    """A heading and one line a text, at most `room` lines of `width` columns, as many of every arm.

    When not all arms fit, a last line says how many don't. [] when there are no texts, or no room for one arm's.
    """
    told = _told(state)
    if not told or room < least(state):
        return []
    shown = told if room > len(told) else told[: room - 2]
    each = max((room - 1) // len(told), 1)
    same = len({arm.generation for arm in shown}) == 1
    name = max(layout.name, len(SHARED)) if shown[0].arm == SHARED else layout.name
    lines = [Text(f"samples of generation {shown[0].generation}" if same else "samples", style="dim")]
    for arm in shown:
        label = symbols.fit(formatting.plain(arm.arm), name) + "  "
        for text in arm.texts[:each] or [""]:
            line = Text(label, style=arm.style)
            line.append("" if same else f"generation {arm.generation}: ", style="dim")
            plain = formatting.plain(text)
            line.append(symbols.fit(plain or EMPTY, width - line.cell_len).rstrip(), style="none" if plain else "dim")
            lines.append(line)
            label = " " * (name + 2)
    if len(shown) < len(told):
        lines.append(Text(f"{symbols.cut} {len(told) - len(shown)} more arms", style="dim"))
    return lines


def needed(state: State) -> int:
    """The lines that a heading and a text of every arm take; 0 when there are no texts."""
    arms = len(_told(state))
    return 1 + arms if arms else 0


def least(state: State) -> int:
    """The lines below which nothing is shown: a heading, one arm, and how many there are beside it."""
    return min(needed(state), 3)


def _told(state: State) -> list[ArmTexts]:
    """Every arm's texts; once, where all have the same, as of generation 0, which they share."""
    found = [
        ArmTexts(arm, palette.color(i), state.texts[arm]["generation"], state.texts[arm]["texts"])
        for i, arm in enumerate(state.cells)
        if arm in state.texts
    ]
    if len(found) > 1 and all(told[2:] == found[0][2:] for told in found):
        return [ArmTexts(SHARED, "none", *found[0][2:])]
    return found
