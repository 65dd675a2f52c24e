"""Numbers, durations and names formatted for people, in ASCII."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from collapse_sim.core import printable


def plain(text: str) -> str:
    r"""One line that is safe on a terminal, with control characters and the like as visible escapes (\x1b)."""
    return printable.line(text)


def in_html(text: str) -> str:
    """`plain` for a page: no character of it is markup."""
    return escape(plain(text))


def duration(seconds: float) -> str:
    """ "0.4 s", "12 s", "3 min 05 s", "2 h 05 min", "3 d 04 h"."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def clock(seconds: float) -> str:
    """Elapsed time: "0:05", "12:04", "2:05:10"."""
    minutes, second = divmod(int(max(seconds, 0.0)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def about(seconds: float) -> str:
    """An estimated duration: "20 s", "3 min", "2 h 05 min"."""
    if seconds < 10:
        return f"{max(math.ceil(seconds), 1)} s"
    if seconds < 90:
        return f"{5 * round(seconds / 5)} s"
    if seconds < 3570:
        return f"{round(seconds / 60)} min"
    return duration(seconds)


def value(x: float) -> str:
    """A score with four significant digits: "0.1834", "12.35", "1.2e-05", "nan"."""
    if not math.isfinite(x):
        return str(x)
    power = int(f"{x:.3e}".partition("e")[2])  # of ten, after rounding
    if x != 0 and not -3 <= power <= 4:
        return f"{x:.2e}"
    return f"{x:.{max(3 - power, 0)}f}"


def count(n: float) -> str:
    """ "1,204"."""
    return f"{n:,.0f}"


def rate(per_s: float, unit: str) -> str:
    """ "12,400 rows/s", "3.2 steps/s", "7.5 s per step"."""
    if per_s >= 100:
        return f"{count(per_s)} {unit}/s"
    if per_s >= 0.5:
        return f"{per_s:.1f} {unit}/s"
    return f"{1 / per_s:.1f} s per {unit.removesuffix('s')}" if per_s > 0 else f"0 {unit}/s"


def size(num_bytes: float) -> str:
    """ "77 KiB", "312 MiB", "1.4 GiB"."""
    if num_bytes < 2**20:
        return f"{num_bytes / 2**10:.0f} KiB"
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f} MiB"


def plural(n: int, noun: str) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{count(n)} {noun}" if n == 1 else f"{count(n)} {noun}s"


def seeds(numbers: Sequence[int], of: int) -> str:
    """ "seed 3", "seeds 0, 2", "200 seeds"; "" if there are none, or `of` (all seeds) is at most 1."""
    if not numbers or of <= 1:
        return ""
    if len(numbers) == 1:
        return f"seed {numbers[0]}"
    return plural(len(numbers), "seed") if len(numbers) > 4 else f"seeds {', '.join(map(str, numbers))}"


def arms(names: Sequence[str], of: int) -> str:
    """ "replace", "replace, distill", "all arms"."""
    if not names:
        return ""
    if len(names) == of and of > 1:
        return "all arms"
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more arms"


def counts(by_kind: dict[str, int]) -> int:
    """The sum over kinds."""
    return sum(by_kind.values())
