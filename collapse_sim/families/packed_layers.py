"""Linear layers for decoding on a CPU: their weights brought once into the layout that products of few rows need.

A product of a few rows spends most of its time on its weights, and torch's own brings them into oneDNN's blocked layout
anew in every call, or, in float32, calls a library that is slower for such shapes (measured with torch 2.15: half the
time for 8 rows, a tenth less for 128). Weights are packed by the operators that torch.compile uses for this, where this
torch has them. Results are the layers' own up to rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from collapse_sim.core.machine import converted_weights
from collapse_sim.families.text_network import Head

FEWEST = 32  # tokens to be decoded from which packing pays: it takes as long as about ten to twenty of them
SHARE = 0.125  # of the machine's memory that packed weights may take
LEAST_ROWS = 2  # one row has a kernel of its own, with other rounding: rows would depend on those beside them

Call = Callable[[Tensor], Tensor]


@contextlib.contextmanager
def packed_layers(network: nn.Module, new: int) -> Iterator[None]:
    """Within it, linear layers of `network` compute with packed weights, if `new` passes of a few rows are worth it.

    Within a block of `Machine.inference`, to whose end they are kept: weights do not change there. Whether they are
    packed depends on nothing but `new`, the network and the machine, and so do the results.
    """
    kept = converted_weights()
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    layers = _linear_layers(network) if kept is not None and new >= FEWEST else []
    if kept is None or not layers or not _possible(layers, dtype):
        yield
        return
    if network not in kept:
        kept[network] = [_packed(layer, _dtype_of(layer, dtype)) for layer in layers]
    with _replaced(layers, kept[network]):
        yield


@contextlib.contextmanager
def _replaced(layers: Sequence[Any], calls: Sequence[Call]) -> Iterator[None]:
    """The layers with other forward passes."""
    before: list[tuple[Any, Call | None]] = []
    try:
        for layer, call in zip(layers, calls, strict=True):
            before.append((layer, layer.__dict__.get("forward")))
            layer.__dict__["forward"] = call
        yield
    finally:
        for layer, own in before:
            layer.__dict__.pop("forward", None)
            if own is not None:
                layer.__dict__["forward"] = own


def _possible(layers: Sequence[Any], dtype: torch.dtype) -> bool:
    """Whether this torch and processor have such products, and the weights are plain float32 ones with enough memory
    beside them."""
    if torch.is_grad_enabled() or not (torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    size = sum(layer.weight.numel() * _dtype_of(layer, dtype).itemsize for layer in layers)
    return size <= SHARE * psutil.virtual_memory().total and all(_is_plain(layer.weight) for layer in layers)


def _is_plain(weight: Tensor) -> bool:
    parameter = type(weight) is nn.Parameter and type(weight.data) is Tensor
    return parameter and weight.device.type == "cpu" and weight.dtype == torch.float32


def _linear_layers(network: nn.Module) -> list[Any]:
    """nn.Linear and the Conv1D of GPT-2, whose weight is transposed; no subclasses, which may differ."""
    from transformers.pytorch_utils import Conv1D

    return [module for module in network.modules() if type(module) in (nn.Linear, Head, Conv1D)]


def _dtype_of(layer: Any, dtype: torch.dtype) -> torch.dtype:
    """Logits stay in float32 (text_network.Head)."""
    return torch.float32 if isinstance(layer, Head) else dtype


def _packed(layer: Any, dtype: torch.dtype) -> Call:
    """The layer's forward pass with its weights packed: (..., inputs) -> (..., outputs) of this type."""
    weight = layer.weight.detach().to(dtype)
    weight = (weight if isinstance(layer, nn.Linear) else weight.t()).contiguous()
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, LEAST_ROWS)
    bias = None if layer.bias is None else layer.bias.detach().to(dtype)

    def forward(x: Tensor) -> Tensor:
        alone = x.shape[:-1].numel() == 1
        given = x.to(dtype).reshape(1, -1).repeat(LEAST_ROWS, 1) if alone else x.to(dtype)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(given, packed, bias, "none", [], "")
        return out[:1].reshape(*x.shape[:-1], -1) if alone else out

    return forward
