"""The optimiser that a recipe names, for one model or for a stack of models of one architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from collapse_sim.families.training import Train


def make_optimizer(
    train: Train, model: nn.Module, stacked: Mapping[str, Tensor] | None = None
) -> torch.optim.Optimizer:
    """The optimiser of a model's parameters, or of stacked ones: {name in the model: (S, ...)}."""
    groups, rate = _groups(train, model, stacked), train.learning_rate
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum=train.momentum)
    kind = torch.optim.AdamW if train.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, rate, betas=train.betas, fused=True)


def _groups(train: Train, model: nn.Module, stacked: Mapping[str, Tensor] | None) -> list[dict[str, Any]]:
    """All parameters; with `decay: weights` in two groups: matrices and kernels decay, but embeddings and parameters of
    fewer than two dimensions (biases, the scales of norms) don't."""
    named = dict(model.named_parameters())
    updated = {name: parameter if stacked is None else stacked[name] for name, parameter in named.items()}
    if train.decay == "all" or not train.weight_decay:
        return [{"params": list(updated.values()), "weight_decay": train.weight_decay}]
    vectors = {id(p) for layer in model.modules() if isinstance(layer, nn.Embedding) for p in layer.parameters()}
    still = {name for name, p in named.items() if p.dim() < 2 or id(p) in vectors}
    return [
        {"params": [p for name, p in updated.items() if name not in still], "weight_decay": train.weight_decay},
        {"params": [p for name, p in updated.items() if name in still], "weight_decay": 0.0},
    ]
