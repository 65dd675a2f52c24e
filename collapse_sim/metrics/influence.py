"""The influence of each row on a score, from which intervals over held-out rows are computed without resampling.

A score over n rows drawn from many is approximately its expected value plus the mean of n independent influences, so
its standard error is s / sqrt(n), s their standard deviation (Hampel 1974; infinitesimal jackknife, Efron 1982, ch. 6).
For a mean these are the deviations from it, for a ratio those of its linearisation (Cochran 1977, ch. 6).
"""

from __future__ import annotations

from torch import Tensor


def of_ratio(values: Tensor, weights: Tensor | None = None, slope: float = 1.0) -> Tensor:
    """Influences on f(sum of values / sum of weights), where f has this slope at the ratio: (n,) float64, with sum 0.

    `values` and `weights` are (n,); without weights the influences are those on the mean.
    """
    values = values.double()
    if weights is None:
        return slope * (values - values.mean())
    weights = weights.double()
    ratio = values.sum() / weights.sum()
    influences: Tensor = slope * (values - ratio * weights) / weights.mean()
    return influences
