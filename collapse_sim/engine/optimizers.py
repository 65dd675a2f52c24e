"""The optimiser that a recipe names, for one model or for a stack of models of one architecture."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from collapse_sim.families.training import Train

CLEARED_EVERY = 100  # steps


def make_optimizer(
    train: Train, model: nn.Module, stacked: Mapping[str, Tensor] | None = None
) -> torch.optim.Optimizer:
    """The optimiser of a model's parameters, or of stacked ones: {name in the model: (S, ...)}."""
    groups, rate = _groups(train, model, stacked), train.learning_rate
    if train.optimizer == "sgd":
        return SGD(groups, rate, momentum=train.momentum)
    kind = AdamW if train.optimizer == "adamw" else Adam
    return kind(groups, rate, betas=train.betas, fused=True)


@torch.no_grad()
def clear_subnormals(optimizer: Optimizer, step: int) -> None:
    """After every CLEARED_EVERY-th step: set subnormal numbers in an optimiser's state on the CPU to 0.

    A unit that nothing activates any more has gradients of 0. Its mean gradient shrinks by a tenth per step until it is
    subnormal, and stays there, since rounding keeps it from 0; a CPU computes several times as long with such numbers.
    An update from one is below 1e-30, which changes no weight. `step` is the fit's own, so that a fit that goes on
    after a stop clears at the same steps.
    """
    if (step + 1) % CLEARED_EVERY:
        return
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor) and value.device.type == "cpu" and value.dim():
                own = value.to_local() if hasattr(value, "to_local") else value  # sharded
                own.masked_fill_(own.abs() < torch.finfo(own.dtype).tiny, 0)


class _Eager(Optimizer):
    """An optimiser whose methods run without torch's compiler.

    torch's own methods first import torch._dynamo, and with it sympy and 1,500 modules, to tell the compiler to leave
    them alone. Without it, the first step of a run comes seconds earlier.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


class Adam(_Eager, torch.optim.Adam):
    """torch's Adam."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class AdamW(_Eager, torch.optim.AdamW):
    """torch's AdamW."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class SGD(_Eager, torch.optim.SGD):
    """torch's SGD."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


def _groups(train: Train, model: nn.Module, stacked: Mapping[str, Tensor] | None) -> list[dict[str, Any]]:
    """All parameters that are not frozen; with `decay: weights` in two groups: matrices and kernels decay, but
    embeddings and parameters of fewer than two dimensions (biases, the scales of norms) don't."""
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    updated = {name: parameter if stacked is None else stacked[name] for name, parameter in named.items()}
    if train.decay == "all" or not train.weight_decay:
        return [{"params": list(updated.values()), "weight_decay": train.weight_decay}]
    vectors = {id(p) for layer in model.modules() if isinstance(layer, nn.Embedding) for p in layer.parameters()}
    still = {name for name, p in named.items() if p.dim() < 2 or id(p) in vectors}
    return [
        {"params": [p for name, p in updated.items() if name not in still], "weight_decay": train.weight_decay},
        {"params": [p for name, p in updated.items() if name in still], "weight_decay": 0.0},
    ]
