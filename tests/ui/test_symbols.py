"""Symbols of the dashboard: one column each, and texts that fit exactly."""

from __future__ import annotations

import dataclasses

import pytest
from rich.cells import cell_len

from collapse_sim.ui.symbols import ASCII, UNICODE, Symbols

TEXTS = ["", "a", "replace", "日本語", "a日b", "e\u0301é", "x" * 50, "中" * 30]


@pytest.mark.parametrize("symbols", [UNICODE, ASCII], ids=["unicode", "ascii"])
def test_every_symbol_is_one_column_wide_and_cells_can_be_told_apart(symbols: Symbols) -> None:
    for field in dataclasses.fields(symbols):
        signs = getattr(symbols, field.name)
        assert all(cell_len(sign) == 1 for sign in signs), field.name
    assert len({sign for sign, *_ in symbols.legend()}) == len(symbols.legend())
    assert len(set(symbols.spark)) == len(symbols.spark) == 8
    assert symbols is UNICODE or all(str(getattr(symbols, f.name)).isascii() for f in dataclasses.fields(symbols))


@pytest.mark.parametrize("symbols", [UNICODE, ASCII], ids=["unicode", "ascii"])
@pytest.mark.parametrize("width", range(12))
@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_exactly_as_wide_as_they_may_be(symbols: Symbols, text: str, width: int) -> None:
    """Wide signs, too: a cut in the middle of one leaves a space."""
    left, right = symbols.fit(text, width), symbols.right(text, width)
    assert cell_len(left) == cell_len(right) == width
    if cell_len(text) <= width:
        assert left.rstrip(" ") == right.lstrip(" ") == text
        assert left.startswith(text)
        assert right.endswith(text)
    elif width:
        assert left.endswith(symbols.cut)
        assert text.startswith(left.removesuffix(symbols.cut).rstrip(" "))
