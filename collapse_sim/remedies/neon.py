"""Neon: weights are extrapolated away from those that a fit to own samples leads to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from collapse_sim.data.base import Data, Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.remedies.base import Operand
from collapse_sim.remedies.combining import check_combinable
from collapse_sim.remedies.own_fit import OwnFit


class Neon(OwnFit):
    """Weights extrapolated away from those of a fit to own samples (Alemohammad et al., arXiv 2510.03597).

    theta = (1 + w) theta_r - w theta_s, with theta_r the generation's fit and theta_s the same trained further on own
    samples, which are drawn with the arm's sampler. All floating-point parameters and buffers alike. Generation 0 is
    extrapolated, too.

    w > 0 is for samplers that seek modes (temperature below 1, few steps), w < 0 for those that spread. It reduces bias
    and never variance: in least squares the error grows by the factor 1 + w^2.
    """

    w: Annotated[float, Field(allow_inf_nan=False)]
    """How far the weights are extrapolated; 0: not at all."""
    infeasible: Literal["refuse", "project"] = "refuse"
    """Gaussian: where the combined covariance is singular or negative, the chain ends, or the nearest one is taken."""

    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"w": 1.0},)

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        check_combinable(family, self.infeasible)
        self.check_train(family)

    def coefficients(self, k: int) -> Mapping[Operand, float]:
        return {"fit": 1 + self.w, "own": -self.w}
