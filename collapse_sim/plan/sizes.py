"""How large an experiment is: operations of an update, bytes that are still to be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.specs import DataSpec, FeatureSpec, FitSpec, SampleSpec
from collapse_sim.store.spec import Spec

if TYPE_CHECKING:
    from torch import nn


def operations_per_step(experiment: Experiment) -> float:
    """Floating-point operations of an optimiser update: three times a forward pass's products; 0 for closed forms."""
    recipe, info = experiment.recipe, experiment.info
    return 3.0 * recipe.train.batch_size * forward_operations(recipe.model, info) if recipe.train else 0.0


def forward_operations(family: ModelFamily, info: Info) -> float:
    """Floating-point operations of the linear layers and convolutions in a family's prediction, a row."""
    import torch

    from collapse_sim.core.randomness import Draws

    rows = {
        name: torch.zeros(2, *shape, dtype=getattr(torch, dtype))
        for name, (shape, dtype) in info.columns.items()
        if name in family.columns
    }
    inputs = family.corrupt(rows, Draws((0,), "count", 0))
    total = 0.0

    def count(layer: nn.Module, arguments: object, output: object) -> None:
        nonlocal total
        weight = getattr(layer, "weight", None)
        if isinstance(output, torch.Tensor) and isinstance(weight, torch.Tensor) and weight.dim() > 1:
            total += 2.0 * output.numel() * weight[0].numel()

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = family.build(info)
        for layer in model.modules():
            layer.register_forward_hook(count)
        family.predict(model, inputs)
    return total / len(next(iter(inputs.tensors.values())))


def bytes_to_come(experiment: Experiment, is_missing: Callable[[Spec], int]) -> int:
    """An estimate of what the artefacts that are still missing will take on the disk: rows and weights."""
    row = experiment.info.row_bytes
    total = 0
    for spec in experiment.specs():
        seeds = is_missing(spec)
        if isinstance(spec, FitSpec):
            total += seeds * experiment.weights_bytes
        elif isinstance(spec, SampleSpec):
            total += seeds * spec.rows * row
        elif isinstance(spec, FeatureSpec) and spec.weights:
            total += seeds * spec.count * spec.weights.most_numbers * 4
        elif isinstance(spec, DataSpec):
            info = experiment.info
            total += seeds * (info.pool + info.validation + info.held_out) * row
    return total
