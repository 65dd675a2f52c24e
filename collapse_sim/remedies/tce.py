"""Truncated cross-entropy: tokens that the model is sure of do not count (ForTIFAI, arXiv 2509.08972)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.data.base import Data, Info
from collapse_sim.data.sources import Plan
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.hooks import TokenLosses


class TruncatedCrossEntropy(Component):
    """Loss = -(1 / T) sum over tokens of 1[p <= threshold] log p (ForTIFAI, arXiv 2509.08972), in every generation.

    p is the model's probability of the true token; no gradient flows through the indicator. T is the number of all
    tokens, so steps become smaller as the model becomes surer; with `renormalise` it is the number of those that count.
    """

    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.99
    """The highest probability of a token that counts. 1: all count."""
    renormalise: bool = False
    """Divide by the number of tokens that count, and not by that of all."""

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        """Raises ValueError for a family without token losses."""
        check_token_weights(family)

    def changes(self, plan: Plan) -> bool:
        return self.threshold < 1

    def check_plans(self, plans: Sequence[Plan]) -> None:
        """Accepts any rows."""

    def factors(self, nats: Tensor) -> Tensor:
        """1 for tokens with p <= threshold, else 0."""
        return (nats.detach() >= -math.log(self.threshold)).to(nats.dtype)


def check_token_weights(family: ModelFamily) -> None:
    """Raise ValueError when tokens cannot have weights."""
    if not isinstance(family, TokenLosses):
        raise ValueError(
            f"{type(family).__name__} has no `token_losses` (collapse_sim.families.hooks): this weights tokens; "
            "use it with causal_lm or seq2seq"
        )
