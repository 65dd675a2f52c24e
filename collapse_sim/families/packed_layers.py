"""Linear layers for decoding on a CPU: their weights brought once into the layout that products of few rows need.

A product of a few rows spends most of its time on its weights, and torch's own brings them into oneDNN's blocked layout
anew in every call, or, in float32, calls a library that is slower for such shapes (measured with torch 2.15: half the
time for 8 rows, a tenth less for 128). Weights are packed by the operators that torch.compile uses for this, where this
torch has them. The products of a row are then the same bits whichever rows are beside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import psutil
import torch
from torch import Tensor, nn

from collapse_sim.families.text_network import Head

FEWEST = 16  # tokens to be decoded from which packing pays: it takes as long as about ten of them
SHARE = 0.25  # of the free memory that packed weights may take

_PACKED: WeakKeyDictionary[nn.Module, PackedLayers] = WeakKeyDictionary()


class PackedLayers:
    """The linear layers of a network with their weights packed, as these were when this was made."""

    def __init__(self, layers: Sequence[Any], dtype: torch.dtype, rows: int) -> None:
        """`dtype`: that of the products, but for those of logits (see _dtype_of)."""
        self._layers, self._dtype, self._versions = layers, dtype, _versions(layers)
        self._calls = [_packed(layer, _dtype_of(layer, dtype), rows) for layer in layers]

    def fits(self, dtype: torch.dtype) -> bool:
        """Whether products of this type would have these weights: none has changed since."""
        return dtype == self._dtype and self._versions == _versions(self._layers)

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Within it the layers compute with packed weights. Not for training: there are no gradients."""
        for layer, call in zip(self._layers, self._calls, strict=True):
            layer.__dict__["forward"] = call
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.__dict__["forward"]


@contextlib.contextmanager
def packed_layers(network: nn.Module, rows: int, new: int) -> Iterator[None]:
    """Within it, linear layers of `network` compute with packed weights, if `new` passes of `rows` rows are worth it.

    They are kept for the next time, as long as the network lives and its weights are the same.
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    layers = _linear_layers(network)
    packed = _PACKED.pop(network, None)
    if not _possible(layers, dtype):
        packed = None
    elif packed is None or not packed.fits(dtype):
        worth_it = new >= FEWEST and _bytes(layers, dtype) <= SHARE * psutil.virtual_memory().available
        packed = PackedLayers(layers, dtype, rows) if worth_it else None
    if packed is None:
        yield
        return
    _PACKED[network] = packed
    with packed.used():
        yield


def _possible(layers: Sequence[Any], dtype: torch.dtype) -> bool:
    """Whether this torch and processor have such products, and the weights are plain float32 ones in memory."""
    if not (torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return not torch.is_grad_enabled() and all(_is_plain(layer.weight) for layer in layers)


def _is_plain(weight: Tensor) -> bool:
    parameter = type(weight) is nn.Parameter and type(weight.data) is Tensor
    return parameter and weight.device.type == "cpu" and weight.dtype == torch.float32


def _linear_layers(network: nn.Module) -> list[Any]:
    """nn.Linear and the Conv1D of GPT-2, whose weight is transposed; no subclasses, which may differ."""
    from transformers.pytorch_utils import Conv1D

    return [module for module in network.modules() if type(module) in (nn.Linear, Head, Conv1D)]


def _versions(layers: Sequence[Any]) -> list[tuple[int, int]]:
    tensors = (tensor for layer in layers for tensor in (layer.weight, layer.bias) if tensor is not None)
    return [(tensor.data_ptr(), tensor._version) for tensor in tensors]


def _dtype_of(layer: Any, dtype: torch.dtype) -> torch.dtype:
    """Logits stay in float32 (text_network.Head)."""
    return torch.float32 if isinstance(layer, Head) else dtype


def _bytes(layers: Sequence[Any], dtype: torch.dtype) -> int:
    return sum(layer.weight.numel() * _dtype_of(layer, dtype).itemsize for layer in layers)


def _packed(layer: Any, dtype: torch.dtype, rows: int) -> Callable[[Tensor], Tensor]:
    """The layer's forward pass with its weights packed: (..., inputs) -> (..., outputs) of this type."""
    weight = layer.weight.detach()
    weight = (weight if isinstance(layer, nn.Linear) else weight.t()).to(dtype).contiguous()
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    bias = None if layer.bias is None else layer.bias.detach().to(dtype)

    def forward(x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x.to(dtype), packed, bias, "none", [], "")
        return out

    return forward
