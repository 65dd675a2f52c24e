"""Focal loss: tokens count less, the surer the model is of them (Lin et al. 2017; for texts in arXiv 2509.08972)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.data.base import Data, Info
from collapse_sim.data.sources import Plan
from collapse_sim.families.base import ModelFamily
from collapse_sim.remedies.tce import check_token_weights

LEAST = 1e-12  # of 1 - p: below it the derivative of a root of 1 - p is not finite


class Focal(Component):
    """Loss = -(1 / T) sum over tokens of (1 - p)^gamma log p (Lin et al. 2017, equation 4), in every generation.

    p is the model's probability of the true token, and the gradient flows through the factor; T is the number of all
    tokens. One of the losses that ForTIFAI (arXiv 2509.08972) compares.
    """

    gamma: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 2.0
    """Exponent of the factor. 0: the plain cross-entropy."""

    renormalise: ClassVar[bool] = False

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        """Raises ValueError for a family without token losses."""
        check_token_weights(family)

    def changes(self, plan: Plan) -> bool:
        return self.gamma > 0

    def check_plans(self, plans: Sequence[Plan]) -> None:
        """Accepts any rows."""

    def factors(self, nats: Tensor) -> Tensor:
        """(1 - p)^gamma."""
        return torch.where(nats > 0, (-torch.expm1(-nats)).clamp(min=LEAST) ** self.gamma, 0.0)
