"""Several tests at once (Holm 1979): all of a family are right in 95 % of experiments."""

from __future__ import annotations

from collections.abc import Sequence


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Each p value as large as Holm's step-down procedure makes it, in the given order; at most 1.

    The least of m is multiplied by m, the next by m - 1 ..., and none becomes less than one before it.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    found = [1.0] * len(p_values)
    reached = 0.0
    for rank, i in enumerate(order):
        reached = max(reached, min(1.0, (len(order) - rank) * p_values[i]))
        found[i] = reached
    return found
