"""How much each row moves a score: what intervals over held-out rows are made from, without drawing rows anew.

A score over n rows that are drawn from many is near its expected value plus the mean of n independent influences, so
its standard error is s / sqrt(n), s their standard deviation (Hampel 1974; infinitesimal jackknife, Efron 1982, ch. 6).
Of a mean these are the distances of the values from it, of a ratio those of its linearisation (Cochran 1977, ch. 6).
"""

from __future__ import annotations

from torch import Tensor


def of_ratio(values: Tensor, weights: Tensor | None = None, slope: float = 1.0) -> Tensor:
    """Of f(sum of values / sum of weights), where f has this slope at the ratio: (n,) float64, with sum 0.

    `values` and `weights` are (n,); without weights it is of the mean.
    """
    values = values.double()
    if weights is None:
        return slope * (values - values.mean())
    weights = weights.double()
    ratio = values.sum() / weights.sum()
    found: Tensor = slope * (values - ratio * weights) / weights.mean()
    return found
