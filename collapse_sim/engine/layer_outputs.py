"""How far the outputs of a student's layers are from its teacher's."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from collapse_sim.core.errors import RecipeError
from collapse_sim.families.base import Inputs, ModelFamily
from collapse_sim.families.hooks import HasPositions, row_counts_of
from collapse_sim.families.layers import Outputs
from collapse_sim.plan.settings import Criterion


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
