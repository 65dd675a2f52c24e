"""How figures are written: a mean to the precision that its interval supports."""

from __future__ import annotations

import math
from collections.abc import Sequence

_SIGNIFICANT = 4  # digits of a figure without an interval
_PLAIN = (1e-3, 1e6)  # magnitudes outside are written with an exponent


def figure(value: float, digits: int = _SIGNIFICANT) -> str:
    """A figure of unknown precision, to `digits` significant digits: 0.05739, 12.30, 1.230e-05, nan."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if not _PLAIN[0] <= abs(value) < _PLAIN[1]:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - _exponent(value))}f}"


def with_half(mean: float, half: float | None, *, signed: bool = False) -> str:
    """`mean ± half`: the half-width to two significant digits, the mean to the same decimal place."""
    sign = "+" if signed else ""
    if half is None or not math.isfinite(mean):
        return f"{sign if mean > 0 else ''}{figure(mean)}"
    if half == 0:
        return f"{sign if mean > 0 else ''}{figure(mean)} ± 0"
    place = _exponent(float(f"{half:.1e}")) - 1  # the power of ten of the half-width's second digit
    largest = max(abs(mean), half)
    if _PLAIN[0] <= largest < _PLAIN[1]:
        decimals = max(0, -place)
        return f"{mean:{sign}.{decimals}f} ± {half:.{decimals}f}"
    power = _exponent(largest)
    decimals = max(0, power - place)
    return f"({mean / 10**power:{sign}.{decimals}f} ± {half / 10**power:.{decimals}f})e{power:+03d}"


def aligned(texts: Sequence[str]) -> list[str]:
    """Figures of one column, padded so that decimal points and ± stand below each other. All get the same length."""
    rows = [text.partition(" ± ") for text in texts]
    means, halves = _at_the_point([row[0] for row in rows]), _at_the_point([row[2] for row in rows])
    width = max((len(row[1]) for row in rows), default=0)
    return [f"{mean}{row[1]:<{width}}{half}" for mean, row, half in zip(means, rows, halves, strict=True)]


def _at_the_point(texts: Sequence[str]) -> list[str]:
    split = [text.partition(".") for text in texts]
    before = max((len(whole) for whole, _, _ in split), default=0)
    after = max((len(point + rest) for _, point, rest in split), default=0)
    return [f"{whole:>{before}}{point + rest:<{after}}" for whole, point, rest in split]


def percent(share: float) -> str:
    """A signed relative difference: 0.0213 -> +2.1 %."""
    if not math.isfinite(share):
        return f"{share:g}"
    value = 100 * share
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 1 else 2
    return f"{value:+.{decimals}f} %"


def _exponent(value: float) -> int:
    return int(f"{abs(value):e}".split("e")[1])
