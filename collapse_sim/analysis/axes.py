"""Scales and ticks: bounded metrics on a linear axis within their bounds, wide ranges on a logarithmic one."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from collapse_sim.analysis.scale import Bounds

DECADES = 2.0  # positive values that span more decades are drawn on a logarithmic axis
_BELOW = 0.1  # a logarithmic axis reaches down to interval ends above this share of the least mean
_ROOM = 1.25  # margin factor above and below on a logarithmic axis


def wide(heights: Iterable[float], bounds: Bounds) -> bool:
    """Whether values belong on a logarithmic axis: all positive, spanning more than two powers of ten, and not bounded
    on both sides (a share of 0.001 of all rows differs little from one of 0.0001)."""
    finite = [height for height in heights if math.isfinite(height)]
    if None not in bounds or not finite or min(finite) <= 0:
        return False
    return math.log10(max(finite)) - math.log10(min(finite)) > DECADES


def logarithmic(axes: Axes, heights: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> None:
    """Make the y axis logarithmic for positive `heights`; interval ends far below them or <= 0 are cut off."""
    means = [height for height in heights if math.isfinite(height)]
    floor = min(means)
    ends = [low for low in lows if low > _BELOW * floor]
    bottom = min([floor, *ends]) if len(ends) == len([low for low in lows if math.isfinite(low)]) else _BELOW * floor
    top = max([*means, *(high for high in highs if math.isfinite(high))])
    axes.set_ylim(bottom / _ROOM, min(top * _ROOM, sys.float_info.max))
    axes.set_yscale("log")  # after setting the limits: margins around hundreds of decades overflow
    plain_log_ticks(axes.yaxis)


def linear(axes: Axes, bounds: Bounds, heights: Iterable[float]) -> None:
    """Fit the y axis to what is drawn, within the bounds; means that are out of bounds are shown anyway."""
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    means = [height for height in heights if math.isfinite(height)]
    low, high = axes.get_ylim()
    least, greatest = bounds
    if means and least is not None:
        low = max(low, min(least, *means))
    if means and greatest is not None:
        high = min(high, max(greatest, *means))
    if low < high:
        axes.set_ylim(low, high)


def generations(axes: Axes, first: int, last: int) -> None:
    """Make the x axis one of generations, with integer ticks."""
    axes.set_xlabel("generation")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, steps=[1, 2, 5, 10]))
    if first == last:
        axes.set_xlim(first - 0.5, last + 0.5)


def plain_log_ticks(axis: Axis) -> None:
    """Label powers of ten as plain text: 0.01, 1, 1000, 1e6."""
    axis.set_major_locator(LogLocator(base=10, numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))
    axis.set_minor_formatter(NullFormatter())


def power(value: float) -> str:
    """ "0.01", "1000", "1e6"; "" for non-positive or non-finite values."""
    if not 0 < value < math.inf:
        return ""
    if 1e-3 <= value < 1e5:
        return f"{value:.10g}"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"
