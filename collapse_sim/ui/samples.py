"""Generated texts on the dashboard: one to three of each arm's latest generation, one per line."""

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
    """Texts of one arm, or those that all arms share."""

    arm: str
    style: str
    generation: int
    texts: list[str]


def samples(state: State, layout: GridLayout, width: int, room: int, symbols: Symbols) -> list[Text]:
    """A heading and one line per text, at most `room` lines of `width` columns, equally many for each arm.

    If not all arms fit, a last line has the number of the others. [] if there are no texts, or no room for one arm.
    """
    arm_texts = _texts_by_arm(state)
    if not arm_texts or room < least(state):
        return []
    shown = arm_texts if room > len(arm_texts) else arm_texts[: room - 2]
    texts_per_arm = max((room - 1) // len(arm_texts), 1)
    same_generation = len({arm.generation for arm in shown}) == 1
    name = max(layout.name, len(SHARED)) if shown[0].arm == SHARED else layout.name
    lines = [Text(f"samples of generation {shown[0].generation}" if same_generation else "samples", style="dim")]
    for arm in shown:
        label = symbols.fit(formatting.plain(arm.arm), name) + "  "
        for text in arm.texts[:texts_per_arm] or [""]:
            line = Text(label, style=arm.style)
            line.append("" if same_generation else f"generation {arm.generation}: ", style="dim")
            plain = formatting.plain(text)
            line.append(symbols.fit(plain or EMPTY, width - line.cell_len).rstrip(), style="none" if plain else "dim")
            lines.append(line)
            label = " " * (name + 2)
    if len(shown) < len(arm_texts):
        lines.append(Text(f"{symbols.cut} {len(arm_texts) - len(shown)} more arms", style="dim"))
    return lines


def needed(state: State) -> int:
    """The number of lines for a heading and one text per arm; 0 if there are no texts."""
    arms = len(_texts_by_arm(state))
    return 1 + arms if arms else 0


def least(state: State) -> int:
    """The least number of lines that samples are shown in: a heading, one arm, and the number of other arms."""
    return min(needed(state), 3)


def _texts_by_arm(state: State) -> list[ArmTexts]:
    """The texts of each arm; one entry if all arms have the same, as in generation 0, which they share."""
    arm_texts = [
        ArmTexts(arm, palette.color(i), state.texts[arm]["generation"], state.texts[arm]["texts"])
        for i, arm in enumerate(state.cells)
        if arm in state.texts
    ]
    if len(arm_texts) > 1 and all(texts[2:] == arm_texts[0][2:] for texts in arm_texts):
        return [ArmTexts(SHARED, "none", *arm_texts[0][2:])]
    return arm_texts
