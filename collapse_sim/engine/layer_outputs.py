"""The outputs of a model's layers during a prediction, and how far a student's are from its teacher's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from collapse_sim.core.errors import RecipeError
from collapse_sim.families.base import Inputs, ModelFamily
from collapse_sim.families.hooks import HasPositions, row_counts_of
from collapse_sim.plan.settings import Criterion

Outputs = tuple[Tensor, ...]  # of one layer: one for each time that the forward pass calls it


@contextmanager
def captured(model: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, Outputs]]:
    """Within it, the outputs of the modules at `paths` are added to the mapping whenever the model computes them.

    Of an output of several tensors it is the first one of floating point.
    """
    outputs: dict[str, Outputs] = {}
    handles = []
    for path in paths:

        def keep(module: nn.Module, args: Any, output: Any, path: str = path) -> None:
            tensors = [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor) and t.is_floating_point()]
            if tensors:
                outputs[path] = (*outputs.get(path, ()), tensors[0])

        handles.append(model.get_submodule(path).register_forward_hook(keep))
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def layer_distance(
    family: ModelFamily,
    criterion: Criterion,
    path: str,
    student: Mapping[str, Outputs],
    teacher: Mapping[str, Outputs],
    inputs: Inputs,
) -> Tensor:
    """The distance of one layer's outputs, a sum over rows that counts each as the loss does (`row_counts`).

    A row's distance is the mean over the positions that are in use (hooks.HasPositions; other families: one position
    with all values). At a position: mse, the mean of squared differences; cosine, 1 - cos; kl, the divergence of
    softmax(student) from softmax(teacher), in nats. Raises RecipeError when the layer is not computed, or its output is
    not one per row.
    """
    if path not in student or path not in teacher:
        raise RecipeError(
            f"teacher.weights: layer {path}: the model's forward pass computes no output of it; name another"
        )
    n = len(next(iter(inputs.tensors.values())))
    rows: Tensor | float = 0.0
    for own, target in zip(student[path], teacher[path], strict=True):
        if own.dim() < 2 or len(own) != n:
            raise RecipeError(
                f"teacher.weights: layer {path}: its output is of shape {tuple(own.shape)} for {n} rows; needed: one "
                "per row; name another"
            )
        used = (
            family.positions(path, inputs, own.shape[1]) if isinstance(family, HasPositions) and own.dim() > 2 else None
        )
        first = 1 if used is None else 2
        distances = _distances(criterion, own.float().flatten(first), target.float().flatten(first))
        rows = rows + (distances if used is None else (distances * used).sum(1) / used.sum(1).clamp(min=1))
    counts = row_counts_of(family, inputs)
    assert isinstance(rows, Tensor)
    return rows.sum() if counts is None else (rows * counts).sum()


def _distances(criterion: Criterion, student: Tensor, teacher: Tensor) -> Tensor:
    """Over the last dimension."""
    if criterion == "mse":
        return F.mse_loss(student, teacher, reduction="none").mean(-1)
    if criterion == "cosine":
        return 1 - F.cosine_similarity(student, teacher, dim=-1)
    return F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="none", log_target=True).sum(-1)
