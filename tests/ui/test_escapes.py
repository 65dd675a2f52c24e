"""Rich texts and tables keep our styles and nothing that steers a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from collapse_sim.core import printable
from collapse_sim.ui.escapes import Cleaned, clean, clean_text

BAD = "a\x1b[2Jb\u202ec\x9bd"


def styled() -> Text:
    """A bold word before what steers, and a red one across it."""
    text = Text("plain ", style="dim")
    text.append("bold", style="bold")
    text.append(BAD, style="red")
    text.append(" end")
    return text


def styles(text: Text) -> list[tuple[str, str]]:
    """(sign, its style) of every sign."""
    console = Console(color_system="truecolor", width=1000)
    return [(sign, str(segment.style)) for segment in text.render(console) for sign in segment.text]


def test_a_text_keeps_its_styles_sign_by_sign() -> None:
    before, after = styles(styled()), styles(clean_text(styled()))
    wanted = [(sign, style) for c, style in before for sign in printable.escaped(c)]
    assert after == wanted
    assert "".join(sign for sign, _ in after) == printable.escaped(styled().plain)


def test_a_harmless_text_is_left_as_it_is() -> None:
    text = Text("é 日本 👩\u200d👧 ─", style="bold")
    assert clean_text(text) is text


def rendered(part: RenderableType) -> str:
    screen = io.StringIO()
    Console(file=screen, force_terminal=True, color_system="truecolor", width=80).print(part)
    return screen.getvalue()


@pytest.mark.parametrize("wrap", [lambda part: part, lambda part: Padding(part, (0, 2))], ids=["alone", "padded"])
@pytest.mark.parametrize("part", [BAD, Text(BAD, style="green"), styled()], ids=["str", "text", "styled"])
def test_nothing_steers_whatever_it_is_wrapped_in(part: RenderableType, wrap: object) -> None:
    assert callable(wrap)
    shown = Text.from_ansi(rendered(Cleaned(wrap(part)))).plain
    assert printable.escaped(BAD) in shown
    assert printable.escaped(shown) == shown


def test_tables_are_escaped_in_every_place_before_they_are_laid_out() -> None:
    table = Table(title=f"title {BAD}", caption=Text(f"caption {BAD}"))
    table.add_column(f"head {BAD}", footer=f"foot {BAD}")
    table.add_column("wide")
    table.add_row(f"cell {BAD}", Text(f"text {BAD}", style="bold"))
    table.add_row("x" * len(f"cell {printable.escaped(BAD)}"), "y")
    table.show_footer = True
    found = clean(table)
    assert found is table
    shown = Text.from_ansi(rendered(Cleaned(table))).plain
    assert printable.escaped(shown) == shown
    for word in ("title", "caption", "head", "foot", "cell", "text"):
        assert f"{word} {printable.escaped(BAD)}" in shown
    rows = [line for line in shown.splitlines() if line.startswith("│")]
    assert len({len(line) for line in rows}) == 1
