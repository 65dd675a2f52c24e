"""Tables as wide as the terminal."""

from __future__ import annotations

from collapse_sim.analysis.wrapped_tables import folded


def test_folding_loses_nothing() -> None:
    assert folded("output=0.5,mean=1,variance=1", 20) == ["output=0.5,mean=1,", "variance=1"]
    assert folded("abcdefghij", 4) == ["abcd", "efgh", "ij"]
    assert folded("short", 20) == ["short"]
    for name in ("a,b,c" * 9, "x" * 99, "one two  three+four/five", ""):
        for width in (1, 3, 12, 50):
            lines = folded(name, width)
            assert "".join(lines) == name
            assert all(len(line.rstrip()) <= width for line in lines)
