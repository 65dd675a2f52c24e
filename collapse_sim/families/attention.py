"""Attention of short sequences on a CPU, where plain matrix products are faster than torch's fused attention.

For one query, and in bf16 for up to some hundred keys, the fused one takes two to nine times as long (measured with
torch 2.15 on a processor with bf16 products). Results are equal up to rounding; in bf16 scores are rounded, too, as in
transformers' eager attention. Everything else, and everything on CUDA, is left to `scaled_dot_product_attention`.
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

NAME = "collapse_sim"  # transformers finds an attention function by its name in the configuration
SHORT = 256  # keys; for 512 both take equally long
WEIGHTS = 2**25  # at most so many numbers, which a fit holds for every layer, while fused attention holds none
BY_NAME = re.compile(r"""_attn_implementation\b.*["']sdpa["']""")  # code that treats fused attention specially


def is_short(query: Tensor, key: Tensor) -> bool:
    """Whether plain products are faster for (..., queries, d) and (..., keys, d)."""
    if query.device.type != "cpu":
        return False
    if query.shape[-2] == 1:
        return True
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    keys = key.shape[-2]
    return dtype == torch.bfloat16 and keys <= SHORT and query.shape[:-1].numel() * keys <= WEIGHTS


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
    """(n, heads, queries, d), twice (n, kv heads, keys, d) -> (n, heads, queries, d).

    `mask`: bool, where a query sees a key, or numbers that are added to the scores, as `bias` is; each of a shape that
    broadcasts to (n, heads, queries, keys). A query that sees nothing gets finite numbers without meaning.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # several heads share keys and values
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query * (query.shape[-1] ** -0.5 if scale is None else scale) @ key.transpose(-2, -1)
    if bias is not None:
        scores = scores + bias
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
    if dropout:
        weights = nn.functional.dropout(weights, dropout)
    return weights @ value


def use_in_transformers(network: Any) -> None:
    """Short sequences are attended so in a network of transformers that uses fused attention otherwise.

    A network whose code asks for fused attention by its name (sparse attention, as of DeepSeek V3.2) is left as it is.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if getattr(network.config, "_attn_implementation", None) != "sdpa" or _asks_by_name(network):
        return
    AttentionInterface.register(NAME, _forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    network.set_attn_implementation(NAME)


def _asks_by_name(network: Any) -> bool:
    modules = {type(module).__module__ for module in network.modules()}
    try:
        sources = [inspect.getsource(sys.modules[name]) for name in modules if name.startswith("transformers.models.")]
    except OSError:  # nothing is known of code without its source
        return True
    return any(BY_NAME.search(source) for source in sources)


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
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        if position_bias is not None:  # older versions do not know it
            others["position_bias"] = position_bias
        settings = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal, **others}
        fused: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
        return fused
    queries, keys = query.shape[-2], key.shape[-2]
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if attention_mask is not None:
        attention_mask = attention_mask[..., :keys]  # some networks make it longer
    elif causal and queries > 1:
        attention_mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril()
    out = attend(query, key, value, attention_mask, bias=position_bias, scale=scaling, dropout=dropout)
    return out.transpose(1, 2).contiguous(), None


def use_in_diffusers(network: Any) -> None:
    """Short sequences are attended so in a UNet of diffusers that uses fused attention otherwise."""
    from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0

    processor = Processor(AttnProcessor(), AttnProcessor2_0())
    for module in network.modules():
        if isinstance(module, Attention) and isinstance(module.processor, AttnProcessor2_0):
            module.set_processor(processor)


@dataclass(frozen=True)
class Processor:
    """An attention processor of diffusers: one of two for every call, plain products or fused attention."""

    plain: Any
    fused: Any

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Hidden states are (n, channels, height, width) or (n, positions, channels). diffusers looks for the names of
        these parameters."""
        rows = hidden_states.flatten(2).transpose(1, 2) if hidden_states.ndim == 4 else hidden_states
        processor = self.plain if is_short(rows, rows) else self.fused
        out: Tensor = processor(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        return out
