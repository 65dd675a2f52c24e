"""A transformers network as the text families use it: its predictions of every next token, and the weights that are
stored."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from collapse_sim.data.base import Info
from collapse_sim.families.attention import use_in_transformers


class Predicted(NamedTuple):
    """A network's predictions of every next token of n rows."""

    logits: Tensor  # (n, L, V)
    hidden: Tensor  # (n, L, width), the outputs of the last layer


class Head(nn.Linear):
    """The layer that computes the logits. Outside of training it is in float32, whatever the precision of the rest.

    bfloat16 has 8 bits of precision, so logits of about -100, such as GPT-2's, would be multiples of a half: sampling
    and metrics would see another distribution, 0.01 nats per token away.
    """

    def forward(self, states: Tensor) -> Tensor:
        """(n, L, width) -> (n, L, V)"""
        if self.training:
            return super().forward(states)
        with torch.autocast(states.device.type, enabled=False):
            return super().forward(states.to(self.weight.dtype))


class LanguageModel(nn.Module):
    """A transformers network and what it needs to know of the data. Tied weights are stored once; frozen ones, where
    the others are adapters, not at all: `build` gives them."""

    def __init__(self, network: nn.Module, info: Info, *, whole: bool = True) -> None:
        """`whole`: whether all weights are stored, frozen ones, too."""
        super().__init__()
        self.network = network
        tokenizer = info.text()
        self.begin, self.end, self.pad = tokenizer.begin, tokenizer.end, tokenizer.pad
        start: int | None = getattr(network.config, "decoder_start_token_id", None)
        self.start = tokenizer.pad if start is None else start  # the first token of an encoder-decoder's texts
        self.shapes = {name: shape[0] for name, (shape, _) in info.columns.items()}
        self.dtype = getattr(torch, tokenizer.dtype)
        self.packed = info.packed
        head: Any = network.get_output_embeddings()  # type: ignore[operator]
        if type(head) is nn.Linear:
            head.__class__ = Head  # in place, since its weights may be tied
        use_in_transformers(network)
        names: dict[int, str] = {}
        self.tied: dict[str, str] = {}  # a name -> the name under which the same weights are stored
        for name, parameter in network.named_parameters(remove_duplicate=False):
            stored_name = names.setdefault(id(parameter), name)
            if stored_name != name:
                self.tied[name] = stored_name
        trained = (name for name, parameter in network.named_parameters() if parameter.requires_grad)
        self.trained = None if whole else frozenset(trained)  # the names of weights that are stored; None: all
        self.register_state_dict_post_hook(_drop_others)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_restore_others)  # type: ignore[no-untyped-call]

    def forward(self, **inputs: Tensor) -> Predicted:
        """transformers' inputs -> logits and last hidden states."""
        out = self.network(**inputs, output_hidden_states=True, use_cache=False, return_dict=True)
        states = out.decoder_hidden_states if "decoder_hidden_states" in out else out.hidden_states
        return Predicted(out.logits, states[-1])


class WithLayers:
    """A text family whose network's blocks are those that transformers does not split between devices."""

    def blocks(self, model: nn.Module) -> list[nn.Module]:
        """The network's layers (hooks.HasBlocks): of nested ones the outer, and none with weights tied to others'."""
        assert isinstance(model, LanguageModel)
        kinds, tied = getattr(model.network, "_no_split_modules", None) or (), {*model.tied, *model.tied.values()}
        blocks: list[nn.Module] = []
        within: set[nn.Module] = set()
        for name, module in model.network.named_modules():
            if type(module).__name__ not in kinds or module in within:
                continue
            if not any(weight.startswith(f"{name}.") for weight in tied):
                blocks.append(module)
                within.update(module.modules())
        return blocks


def _drop_others(module: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
    assert isinstance(module, LanguageModel)
    for name in module.tied:
        state.pop(f"{prefix}network.{name}", None)
    if module.trained is not None:
        start = f"{prefix}network."
        for name in [name for name in state if name.startswith(start)]:
            if name.removeprefix(start) not in module.trained:
                del state[name]


def _restore_others(module: nn.Module, state: dict[str, Any], prefix: str, *rest: object) -> None:
    assert isinstance(module, LanguageModel)
    if module.trained is not None:
        for name, tensor in module.network.state_dict().items():
            if name not in module.trained:
                state.setdefault(f"{prefix}network.{name}", tensor)
    for name, stored_name in module.tied.items():
        state.setdefault(f"{prefix}network.{name}", state[f"{prefix}network.{stored_name}"])
