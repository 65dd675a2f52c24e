"""Generated texts on the dashboard: of every arm's latest generation one to three, a line each."""

from __future__ import annotations

from rich.text import Text

from collapse_sim.ui import palette, words
from collapse_sim.ui.layout import Layout
from collapse_sim.ui.state import State
from collapse_sim.ui.symbols import Symbols

EMPTY = "(empty)"


def samples(state: State, layout: Layout, width: int, room: int, symbols: Symbols) -> list[Text]:
    """A heading and one line a text, at most `room` lines of `width` columns, as many of every arm.

    When not all arms fit, a last line says how many don't. [] when there are no texts, or no room for one arm's.
    """
    arms = [arm for arm in state.cells if arm in state.texts]
    if not arms or room < least(state):
        return []
    shown = arms if room > len(arms) else arms[: room - 2]
    each = max((room - 1) // len(arms), 1)
    generations = {arm: state.texts[arm]["generation"] for arm in shown}
    same = len(set(generations.values())) == 1
    lines = [Text(f"samples of generation {generations[shown[0]]}" if same else "samples", style="dim")]
    for arm in shown:
        label = symbols.fit(words.plain(arm), layout.name) + "  "
        for text in state.texts[arm]["texts"][:each] or [""]:
            line = Text(label, style=palette.color(list(state.cells).index(arm)))
            line.append("" if same else f"generation {generations[arm]}: ", style="dim")
            plain = words.plain(text)
            line.append(symbols.fit(plain or EMPTY, width - line.cell_len).rstrip(), style="none" if plain else "dim")
            lines.append(line)
            label = " " * (layout.name + 2)
    if len(shown) < len(arms):
        lines.append(Text(f"{symbols.cut} {len(arms) - len(shown)} more arms", style="dim"))
    return lines


def needed(state: State) -> int:
    """The lines that a heading and a text of every arm take; 0 when there are no texts."""
    arms = sum(arm in state.texts for arm in state.cells)
    return 1 + arms if arms else 0


def least(state: State) -> int:
    """The lines below which nothing is shown: a heading, one arm, and how many there are beside it."""
    return min(needed(state), 3)
