"""Passes of a language model's decoder while it writes texts, with a cache that grows or one of fixed size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from collapse_sim.core.replays import Record, Replays

KEPT = 0.75  # share of active rows below which the batch is reduced to them
KEPT_RECORDED = 0.5  # the same where another batch is another recording
TOLERANCE = 1e-2  # of a replay's logits, relative to the largest
FEWEST = 16  # new tokens from which recording pays: it takes as long as about six
REFUSED: WeakSet[Any] = WeakSet()  # networks that cannot be recorded: OPT and BART wait for the device in every pass


class GrowingPasses:
    """Passes with a cache that has the tokens so far, or, where a network keeps none, with all of them."""

    def __init__(self, network: Any, inputs: Mapping[str, Tensor], start: int | None) -> None:
        """`inputs` and `start` as in decoding.decode."""
        self.network, self.cache = network, None
        self.kept = KEPT
        self._name = "input_ids" if start is None else "decoder_input_ids"
        self._fixed: dict[str, Any] = {}
        if start is not None:
            self._fixed = {
                "encoder_outputs": network.get_encoder()(**inputs),
                "attention_mask": inputs["attention_mask"],
            }
        elif getattr(network, "_supports_logits_to_keep", bool)():
            self._fixed["logits_to_keep"] = 1  # transformers' decoders then compute the last position's alone

    def __call__(self, tokens: Tensor) -> Tensor:
        """(n, c) tokens, the first time all that there are -> (n, V) logits of the next one."""
        out = self.network(**{self._name: tokens}, **self._fixed, past_key_values=self.cache, use_cache=True)
        self.cache = getattr(out, "past_key_values", None)
        logits: Tensor = out.logits[:, -1]
        return logits

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the batch alone."""
        if self.cache is not None:
            self.cache.reorder_cache(rows)
        if "encoder_outputs" in self._fixed:
            states = self._fixed["encoder_outputs"]
            states = type(states)(last_hidden_state=states.last_hidden_state[rows])
            mask = self._fixed["attention_mask"][rows]
            self._fixed = {**self._fixed, "encoder_outputs": states, "attention_mask": mask}


def has_fixed_cache(network: Any, length: int) -> bool:
    """Whether transformers has a cache of fixed size for all layers of a network, as CUDA graphs need it."""
    if not getattr(network, "_can_compile_fullgraph", False) or network in REFUSED:
        return False
    return all(_is_plain(layer) for layer in _fixed_cache(network, length).layers)


def _is_plain(layer: Any) -> bool:
    """No window, no state of another kind, and its length a tensor, which older versions do not have."""
    return type(layer).__name__ == "StaticLayer" and isinstance(getattr(layer, "cumulative_length", None), Tensor)


def _fixed_cache(network: Any, length: int) -> Any:
    from transformers import StaticCache

    return StaticCache(config=network.config, max_cache_len=length)


class FixedPasses(GrowingPasses):
    """Passes with a cache of the final length, of equal shapes from the second one on, which are recorded."""

    def __init__(
        self, network: Any, inputs: Mapping[str, Tensor], start: int | None, length: int, record: Record
    ) -> None:
        """`length`: tokens that the cache has room for."""
        super().__init__(network, inputs, start)
        self._own: Any = _fixed_cache(network, length)
        self.cache = self._own
        if start is not None:
            from transformers import DynamicCache, EncoderDecoderCache

            self.cache = EncoderDecoderCache(self._own, DynamicCache(config=network.config))
        self.kept = KEPT_RECORDED
        self._place: Tensor | None = None  # of the next token
        self._replays = Replays(record, TOLERANCE, lambda reason: REFUSED.add(network), math.inf)

    def __call__(self, tokens: Tensor) -> Tensor:
        if self._place is None:
            self._place = torch.tensor(tokens.shape[1], device=tokens.device)
            return super().__call__(tokens)
        own = [tensor for layer in self._own.layers for tensor in (layer.keys, layer.values)]
        (logits,) = self._replays(self._pass, own, [tokens, self._place])
        self._place = self._place + 1
        return logits

    def _pass(self, cache: Sequence[Tensor], inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The logits after one token of every row; the same again when it is called again."""
        tokens, place = inputs
        for layer in self._own.layers:
            layer.cumulative_length.copy_(place)
        return [super().__call__(tokens)]
