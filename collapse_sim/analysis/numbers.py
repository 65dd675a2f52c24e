"""Formatting of figures: a mean to the precision that its interval supports."""

from __future__ import annotations

import math
from collections.abc import Sequence

_SIGNIFICANT = 4  # digits of a figure without an interval
_EVEN = 0.05  # sides that differ by less than this share of the longer one are written as one half-width
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


def with_interval(mean: float, low: float | None, high: float | None, *, signed: bool = False) -> str:
    """`mean ± half` with the longer side as half; `mean [low, high]` to the same decimal place if one side is clearly
    longer, as near a bound."""
    if low is None or high is None or not math.isfinite(mean):
        return with_half(mean, None, signed=signed)
    below, above = mean - low, high - mean
    half = max(below, above)
    if abs(below - above) <= _EVEN * half:
        return with_half(mean, half, signed=signed)
    start, _, rest = with_half(mean, half, signed=signed).partition(" ± ")
    digits, _, exponent = rest.partition(")")  # "(1.2 ± 3.4)e-05": the ends have the mean's power of ten
    decimals, power = len(digits.partition(".")[2]), int(exponent[1:] or 0)
    ends = (_plain(end / 10**power, decimals) for end in (low, high))
    return f"{start} [{', '.join(ends)}]" + (f"){exponent}" if exponent else "")


def _plain(value: float, decimals: int) -> str:
    """A whole number without decimals (a bound such as 0, 1 or 100), any other end of an interval with `decimals`."""
    return f"{value:.0f}" if value == round(value) else f"{value:.{decimals}f}"


def aligned(texts: Sequence[str]) -> list[str]:
    """Figures of one column, padded to one length so that decimal points and ± are aligned."""
    rows = [text.partition(" [") if " [" in text else text.partition(" ± ") for text in texts]
    means = _aligned_at_point([row[0] for row in rows])
    halves = iter(_aligned_at_point([row[2] for row in rows if row[1] == " ± "]))
    ends = [" ± " + next(halves) if row[1] == " ± " else row[1] + row[2] for row in rows]
    width = max(map(len, ends), default=0)
    return [f"{mean}{end:<{width}}" for mean, end in zip(means, ends, strict=True)]


def _aligned_at_point(texts: Sequence[str]) -> list[str]:
    parts = [text.partition(".") for text in texts]
    before = max((len(integer_part) for integer_part, _, _ in parts), default=0)
    after = max((len(point + decimals) for _, point, decimals in parts), default=0)
    return [f"{integer_part:>{before}}{point + decimals:<{after}}" for integer_part, point, decimals in parts]


def probability(p: float) -> str:
    """ "p = 0.031", "p < 0.0001"."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def bare_probability(p: float) -> str:
    """For a column of p values: "0.031", "< 0.0001"."""
    return probability(p).removeprefix("p ").removeprefix("= ")


def percent(share: float) -> str:
    """A signed relative difference: 0.0213 -> +2.1 %."""
    if not math.isfinite(share):
        return f"{share:g}"
    value = 100 * share
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 1 else 2
    return f"{value:+.{decimals}f} %"


def share_with_interval(share: float, low: float | None, high: float | None) -> str:
    """A signed share and its interval, in per cent without that sign: 0.021 [0.018, 0.024] -> +2.10 ± 0.30."""
    low, high = (None if end is None else 100 * end for end in (low, high))
    return with_interval(100 * share, low, high, signed=True)


def finite(value: float | None) -> float | None:
    """None for NaN and infinity, which JSON lacks."""
    return value if value is not None and math.isfinite(value) else None


def _exponent(value: float) -> int:
    return int(f"{abs(value):e}".split("e")[1])
