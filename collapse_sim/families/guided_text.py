"""Two decoder-only language models as one, whose logits are combined before a token is drawn."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from torch import Tensor, nn

from collapse_sim.families.text_network import LanguageModel


class CombinedLogits(NamedTuple):
    """What decoding reads of a network's output."""

    logits: Tensor  # (n, L, V)
    past_key_values: CachePair | None


class CachePair:
    """The caches of keys and values of both networks."""

    def __init__(self, own: Any, other: Any) -> None:
        self.own, self.other = own, other

    def reorder_cache(self, kept: Tensor) -> None:
        """Keep these rows."""
        self.own.reorder_cache(kept)
        self.other.reorder_cache(kept)


class GuidedNetwork(nn.Module):
    """log p = (1 + w) log p_model - w log p_auxiliary + constant: its logits need no normalisation before the softmax.

    It has what decoding.decode needs of a transformers decoder.
    """

    def __init__(self, network: nn.Module, auxiliary: nn.Module, w: float) -> None:
        super().__init__()
        self.network, self.auxiliary, self.w = network, auxiliary, w
        self.config = network.config

    def forward(self, past_key_values: CachePair | None = None, **inputs: Any) -> CombinedLogits:
        own, other = (None, None) if past_key_values is None else (past_key_values.own, past_key_values.other)
        out = self.network(**inputs, past_key_values=own)
        guide = self.auxiliary(**inputs, past_key_values=other)
        logits = (1 + self.w) * out.logits.float() - self.w * guide.logits.float()
        caches = getattr(out, "past_key_values", None), getattr(guide, "past_key_values", None)
        return CombinedLogits(logits, None if caches[0] is None else CachePair(*caches))

    def _supports_logits_to_keep(self) -> bool:
        return bool(getattr(self.network, "_supports_logits_to_keep", bool)())


def guided_text(model: LanguageModel, auxiliary: LanguageModel, w: float) -> LanguageModel:
    """The model with the combined network in place of its own, for decoding only."""
    guided = copy.copy(model)
    guided._modules = {"network": GuidedNetwork(model.network, auxiliary.network, w)}
    return guided
