"""The scale on which the mean of a metric is tested: its own, or an unbounded one if the metric has bounds.

A metric with one bound (`fid`, `variance_ratio`: from 0) is tested by the logarithm of its distance from that bound,
one with two (`coverage`: 0 to 1) by its logit. The tested quantity is the mean itself, not a mean of logarithms, which
differs by Jensen's inequality: the standard error of the mean is transformed by the delta method, g(m) +- t g'(m) se.
So values on the bound itself are used as they are, and need no small number added to them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, expit

Numbers = float | NDArray[np.float64]
Bounds = tuple[float | None, float | None]  # the least and the greatest possible value; None: no bound
UNBOUNDED: Bounds = (None, None)

SKEWED = 0.45  # tolerable skewness of a mean: a one-sided t limit at 2.5 % is then wrong in less than 5 %, at any n
DOUBT = 0.2  # few seeds may underestimate the spread: its upper 80 % limit is used
_LARGEST = 5.0  # limit of the spread: exp(3 * 5^2) does not overflow


@dataclass(frozen=True)
class Scale:
    """g and its inverse for metrics within `bounds`."""

    bounds: Bounds = UNBOUNDED

    @property
    def words(self) -> str:
        """The name of the test in a verdict."""
        least, greatest = self.bounds
        if least is None and greatest is None:
            return "t test"
        return "t test of the mean's logit" if None not in self.bounds else "t test of the mean's logarithm"

    def inside(self, value: Numbers) -> NDArray[np.bool_]:
        """Whether g is finite: strictly within the bounds."""
        least, greatest = self.bounds
        above = np.asarray(value) > (-math.inf if least is None else least)
        return np.asarray(above & (np.asarray(value) < (math.inf if greatest is None else greatest)))

    def g(self, value: Numbers) -> NDArray[np.float64]:
        """The value on the scale; only for values that are `inside`."""
        least, greatest = self.bounds
        if least is None and greatest is None:
            return np.asarray(value, dtype=np.float64)
        above = 0.0 if least is None else np.log(np.asarray(value) - least)
        return np.asarray(above - (0.0 if greatest is None else np.log(greatest - np.asarray(value))))

    def slope(self, value: Numbers) -> NDArray[np.float64]:
        """g'(value)."""
        least, greatest = self.bounds
        if least is None and greatest is None:
            return np.ones_like(np.asarray(value, dtype=np.float64))
        above = 0.0 if least is None else 1 / (np.asarray(value) - least)
        return np.asarray(above + (0.0 if greatest is None else 1 / (greatest - np.asarray(value))))

    def ends(self, mean: float, half: float) -> tuple[float, float]:
        """The ends of the interval mean -+ half, with the half-width carried over to the scale by its slope."""
        if not self.inside(mean):  # a plug-in whose bounds are wrong
            return mean - half, mean + half
        reach = float(self.slope(mean)) * half
        return self._back(mean, -reach), self._back(mean, reach)

    def _back(self, mean: float, step: float) -> float:
        """The value at a distance of `step` from the mean on the scale."""
        least, greatest = self.bounds
        if least is None and greatest is None:
            return mean + step
        if greatest is None:
            assert least is not None
            return least + (mean - least) * math.exp(min(step, 700.0))
        if least is None:
            return greatest - (greatest - mean) * math.exp(min(-step, 700.0))
        return least + (greatest - least) * float(expit(float(self.g(mean)) + step))

    def trusts(self, values: NDArray[np.float64], looks: int = 1) -> NDArray[np.bool_]:
        """Whether a t test of the mean of n values (..., n) is reliable, for metrics with only one bound: bool (...).

        If values spread over orders of magnitude, few of them determine the mean, and most experiments miss those: at
        the end of a Gaussian chain of N = 10, the mean of 1,000 seeds is mostly far below the expected value, and so is
        its standard error. The criterion is the skewness of a lognormal mean, (w + 2) sqrt(w - 1) / sqrt(n) with
        w = exp(s^2), where s is an upper limit of the spread of the logarithms. `looks`: number of tested generations.
        """
        least, greatest = self.bounds
        if (least is None) == (greatest is None):
            return np.ones(values.shape[:-1], dtype=np.bool_)
        distances = values - least if least is not None else (greatest or 0.0) - values
        positive = distances.min(-1) > 0
        n = distances.shape[-1]
        logs = np.log(np.where(positive[..., None], distances, 1.0))
        spread = logs.std(-1, ddof=1) * math.sqrt((n - 1) / float(chdtri(n - 1, 1 - DOUBT / looks)))
        w = np.exp(np.minimum(spread, _LARGEST) ** 2)
        symmetric = (w + 2) * np.sqrt(w - 1) / math.sqrt(n) <= SKEWED
        return np.asarray(np.where(positive, symmetric, distances.min(-1) == distances.max(-1)))


OWN = Scale()  # of metrics without bounds
