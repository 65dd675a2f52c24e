"""The palette: distinct looks, readable on black and on white."""

from __future__ import annotations

from collapse_sim.ui import palette


def test_no_two_of_63_arms_look_the_same_and_colours_are_distinct():
    looks = {(palette.color(i), palette.marker(i), palette.linestyle(i)) for i in range(63)}
    assert len(looks) == 63
    assert len(set(palette.COLORS)) == len(palette.COLORS)


def test_palette_is_readable_on_black_and_on_white():
    def luminance(color: str) -> float:  # WCAG 2
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for color in palette.COLORS:
        assert 1.05 / (luminance(color) + 0.05) > 2.0, color
        assert (luminance(color) + 0.05) / 0.05 > 3.0, color


def test_neighbours_differ_in_colour_and_in_shape() -> None:
    """So that the first arms of a plot can be told apart without colour, and without shape."""
    for i in range(62):
        assert palette.color(i) != palette.color(i + 1)
        assert palette.marker(i) != palette.marker(i + 1)
    assert len({(palette.marker(i), palette.linestyle(i)) for i in range(63)}) > len(palette.MARKERS)
    assert [palette.linestyle(i) for i in (0, 6, 7, 13, 14)] == ["-", "-", "--", "--", "-."]
