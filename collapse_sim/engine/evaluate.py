"""The mean loss of a model on rows that it is not fitted to: during a fit, and as the metric test_loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from collapse_sim.families.base import ModelFamily, rows_at_once_of
from collapse_sim.randomness import Draws

if TYPE_CHECKING:
    from collapse_sim.engine.device import Machine

BATCH_ROWS = 1000  # it decides which rows share a batch's draws, so it is the same wherever test losses are compared


PIECE_VALUES = 2**20  # values that the network sees at a time: 85 rows of 3x64x64 pixels, all 1,000 of 1x32x32


def role_of_batch(batch: int) -> str:
    """The role of a batch's draws. With equal seeds, the loss seen during a fit is then the metric's own."""
    return f"test_loss/{batch}"


@torch.no_grad()
def mean_loss(
    family: ModelFamily,
    model: nn.Module,
    rows: Mapping[str, Tensor],
    draws_for: Callable[[int], Draws],
    batch_rows: int,
    machine: Machine,
    stacked: bool = False,
) -> Tensor:
    """The family's loss divided by its count (rows, or tokens) over all rows, in their order: float64 on the CPU.

    A scalar; with `stacked` rows (S, n, ...) one loss an ensemble member, (S,). `draws_for(i)` is batch i's randomness,
    which may live on another device than the model: noise is added where it is drawn. The network sees as many rows of
    a batch at a time as `PIECE_VALUES` allows. The model is in eval mode meanwhile. Raises ValueError when
    there are no rows.
    """
    axis = 1 if stacked else 0
    columns = {name: rows[name] for name in family.columns if name in rows}
    n = next(iter(columns.values())).shape[axis]
    if n == 0:
        raise ValueError("a mean loss over no rows: the held-out set is empty")
    total: Tensor = torch.zeros((), dtype=torch.float64, device=machine.device)
    count: int | Tensor = 0
    was_training = model.training
    model.eval()
    try:
        for i, first in enumerate(range(0, n, batch_rows)):
            draws = draws_for(i)
            length = min(batch_rows, n - first)
            batch = {name: column.narrow(axis, first, length).to(draws.device) for name, column in columns.items()}
            inputs = family.corrupt(batch, draws)
            moved = {name: tensor.to(machine.device) for name, tensor in inputs.tensors.items()}
            inputs = dataclasses.replace(inputs, tensors=moved)
            for piece in [inputs] if stacked else inputs.split(_pieces(family, model, batch)):
                with machine.autocast():
                    prediction = family.predict(model, piece)
                total = total + family.loss(prediction, piece).double()
            count = count + inputs.count
    finally:
        model.train(was_training)
    return total.cpu() / torch.as_tensor(count).cpu()


def _pieces(family: ModelFamily, model: nn.Module, batch: Mapping[str, Tensor]) -> int:
    """Into how many pieces a batch is split, so that activations of large rows fit in memory."""
    at_once = rows_at_once_of(family)
    if at_once is not None:
        return -(-len(next(iter(batch.values()))) // at_once(model, batch))
    return -(-max(column.numel() for column in batch.values()) // PIECE_VALUES)
