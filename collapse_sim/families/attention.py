"""Attention of short sequences on a CPU, where plain matrix products are faster than torch's fused attention.

For one query, and in bf16 for up to some hundred keys, the fused one takes two to nine times as long (measured with
torch 2.15 on a processor with bf16 products: benchmarks/README.md). Results are equal up to rounding. Everything else,
and everything on CUDA, is computed by `scaled_dot_product_attention` as before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NAME = "collapse_sim"  # transformers finds an attention function by its name in the configuration
SHORT = 256  # keys; for 512 both take equally long, and the weights' memory grows with their square


def is_short(query: Tensor, key: Tensor) -> bool:
    """Whether plain products are faster for (..., queries, d) and (..., keys, d)."""
    if query.device.type != "cpu":
        return False
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    return query.shape[-2] == 1 or (dtype == torch.bfloat16 and key.shape[-2] <= SHORT)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """(n, heads, queries, d), twice (n, kv heads, keys, d) -> (n, heads, queries, d). Weights are in float32.

    `mask`: bool, where a query sees a key, or numbers that are added to the scores, as `bias` is; each of a shape that
    broadcasts to (n, heads, queries, keys). A query that sees nothing gets finite numbers without meaning.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # several heads share keys and values
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    if dropout:
        weights = nn.functional.dropout(weights, dropout)
    return weights @ value


def use_in_transformers(network: Any) -> None:
    """Short sequences are attended so in a network of transformers that uses fused attention otherwise."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if getattr(network.config, "_attn_implementation", None) != "sdpa":
        return
    AttentionInterface.register(NAME, _forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    network.set_attn_implementation(NAME)


def _forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """An attention function of transformers: (n, heads, queries, d) ... -> (n, queries, heads, d)."""
    unusual = any(others.get(name) is not None for name in ("softcap", "s_aux", "cache"))
    if unusual or not is_short(query, key):
        if position_bias is not None:  # older versions do not know it
            others["position_bias"] = position_bias
        return _fused(module, query, key, value, attention_mask, dropout, scaling, is_causal, others)
    queries, keys = query.shape[-2], key.shape[-2]
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if attention_mask is None and causal and queries > 1:
        attention_mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril()
    out = attend(query, key, value, attention_mask, bias=position_bias, scale=scaling, dropout=dropout)
    return out.transpose(1, 2).contiguous(), None


def _fused(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    scaling: float | None,
    is_causal: bool | None,
    others: dict[str, Any],
) -> tuple[Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    settings = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal}
    out, _ = sdpa_attention_forward(module, query, key, value, mask, **settings, **others)
    return out, None


def use_in_diffusers(network: Any) -> None:
    """Short sequences are attended so in a UNet of diffusers."""
    from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0

    plain, fused = AttnProcessor(), AttnProcessor2_0()

    class Processor:
        """Chooses between the two for every call: hidden states are (n, channels, height, width)."""

        def __call__(self, attn: Any, hidden_states: Tensor, *rest: Any, **settings: Any) -> Tensor:
            pixels = hidden_states.flatten(2).transpose(1, 2) if hidden_states.ndim == 4 else hidden_states
            chosen = plain if is_short(pixels, pixels) else fused
            out: Tensor = chosen(attn, hidden_states, *rest, **settings)
            return out

    processor = Processor()
    for module in network.modules():
        if isinstance(module, Attention) and isinstance(module.processor, AttnProcessor2_0):
            module.set_processor(processor)
