"""The look of arms in plots: the terminal's colours, or a colour scale for arms that differ by one number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from matplotlib import colormaps
from matplotlib.colors import to_hex

from collapse_sim.analysis.arm_settings import leaves
from collapse_sim.analysis.results import Results
from collapse_sim.ui.palette import COLORS, color, linestyle, marker

_LEAST = 3  # the least number of arms for a colour scale
_SCALE, _TOP = "viridis", 0.85  # above, the scale is too light on white
_OTHER_COLORS = (COLORS[3], COLORS[6], COLORS[1], COLORS[4])  # of the other arms: not in the scale


class Look(NamedTuple):
    color: str
    marker: str
    linestyle: str


def looks(results: Results) -> dict[str, Look]:
    """The look of every arm. If most arms differ only by one number, their colours follow it from dark to light."""
    positions = scale(results.settings, results.arms)
    if not positions:
        return {arm: Look(color(i), marker(i), linestyle(i)) for i, arm in enumerate(results.arms)}
    by_arm: dict[str, Look] = {}
    others = 0
    for i, arm in enumerate(results.arms):
        if arm in positions:
            by_arm[arm] = Look(to_hex(colormaps[_SCALE](_TOP * positions[arm])), marker(i), "-")
        else:
            by_arm[arm] = Look(_OTHER_COLORS[others % len(_OTHER_COLORS)], marker(i), "--")
            others += 1
    return by_arm


def scale(settings: Mapping[str, Mapping[str, Any]], arms: tuple[str, ...]) -> dict[str, float]:
    """{arm: position from 0 to 1} of the arms that differ only by one number, if over half of all do; {} otherwise."""
    groups: dict[str, dict[str, float]] = {}
    for arm in arms:
        flat = dict(leaves(settings.get(arm, {})))
        for path, value in flat.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                rest = {other: v for other, v in flat.items() if other != path}
                key = json.dumps([path, rest], sort_keys=True, default=str)
                groups.setdefault(key, {})[arm] = float(value)
    largest = max(groups.values(), key=len, default={})
    if len(largest) < _LEAST or 2 * len(largest) <= len(arms):
        return {}
    order = sorted(set(largest.values()))
    return {arm: order.index(value) / max(len(order) - 1, 1) for arm, value in largest.items()}
