"""Averages of weights over generations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from collapse_sim.core.component import Component
from collapse_sim.data.base import Data, Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.remedies.base import Operand
from collapse_sim.remedies.combining import check_combinable


class Average(Component):
    """Weights averaged over generations: the mean of all fits so far, or with a rate a moving average.

    theta_k = (1 - rate) theta_{k-1} + rate x the fit of generation k. Without a rate it is the mean of the fits of
    generations 0, ..., k, a uniform soup (Wortsman et al. 2022, arXiv 2203.05482). No paper on collapse gives a rate.
    Networks need `init: previous`, or pretrained weights: fits from different initial weights have no mean.
    """

    rate: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Weight of the new fit, the same in every generation after 0. Default: 1 / (k + 1)."""
    infeasible: Literal["refuse", "project"] = "refuse"
    """Gaussian: where the mean covariance is singular, the chain ends, or it is kept."""

    @property
    def own(self) -> None:
        return None

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        check_combinable(family, self.infeasible)

    def coefficients(self, k: int) -> Mapping[Operand, float]:
        rate = 1 / (k + 1) if self.rate is None or k == 0 else self.rate
        return {"fit": rate, "previous": 1 - rate}
