"""The mean loss of a model on rows that it is not fitted to: during a fit, and as the metric test_loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from collapse_sim.core.errors import PluginError
from collapse_sim.core.randomness import Draws
from collapse_sim.families.base import (
    Inputs,
    ModelFamily,
    Prediction,
    RowLosses,
    row_counts_of,
    rows_at_once_of,
)

if TYPE_CHECKING:
    from collapse_sim.core.machine import Machine

BATCH_ROWS = 1000  # it decides which rows share a batch's draws, so it is the same wherever test losses are compared


PIECE_VALUES = 2**20  # values that the network sees at a time: 85 rows of 3x64x64 pixels, all 1,000 of 1x32x32


def role_of_batch(batch: int) -> str:
    """The role of a batch's draws. With equal seeds, the loss seen during a fit is then the metric's own."""
    return f"test_loss/{batch}"


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
    total: Tensor = torch.zeros((), dtype=torch.float64, device=machine.device)

    def add(prediction: Prediction, piece: Inputs) -> None:
        nonlocal total
        total = total + family.loss(prediction, piece).double()

    count = _see_all(family, model, rows, draws_for, batch_rows, machine, add, stacked)
    return total.cpu() / torch.as_tensor(count).cpu()


def row_losses(
    family: ModelFamily,
    model: nn.Module,
    rows: Mapping[str, Tensor],
    draws_for: Callable[[int], Draws],
    batch_rows: int,
    machine: Machine,
) -> dict[str, Tensor]:
    """The loss of every row, "loss" (n,), and where the family has one for each, its "count" (n,) int64: on the CPU.

    Their sums are those that `mean_loss` divides, and its arguments. They are in the order that the family's `corrupt`
    leaves a batch in, which is the same for every model of it. Raises PluginError where a family's losses are no row's,
    or its counts don't add up.
    """
    assert isinstance(family, RowLosses)
    losses: list[Tensor] = []
    counts: list[Tensor] = []

    def keep(prediction: Prediction, piece: Inputs) -> None:
        losses.append(family.row_losses(prediction, piece).cpu())
        found = row_counts_of(family, piece)
        if found is not None:
            counts.append(found.cpu())

    count = _see_all(family, model, rows, draws_for, batch_rows, machine, keep, False)
    n = _length(family, rows, 0)
    columns = {"loss": torch.cat(losses)} | ({"count": torch.cat(counts)} if counts else {})
    counted = int(columns["count"].sum()) if counts else n
    empty = -(-n // batch_rows) if counts else 0  # batches without a token count as one
    if any(column.shape != (n,) for column in columns.values()) or not 0 <= int(count) - counted <= empty:
        raise PluginError(
            f"{type(family).__name__}: `row_losses` gave {tuple(columns['loss'].shape)} for {n} rows, which count "
            f"{counted} of {int(count)}; needed: ({n},), and `row_counts` where a row counts other than 1"
        )
    return columns


def _length(family: ModelFamily, rows: Mapping[str, Tensor], axis: int) -> int:
    return next(rows[name] for name in family.columns if name in rows).shape[axis]


@torch.no_grad()
def _see_all(
    family: ModelFamily,
    model: nn.Module,
    rows: Mapping[str, Tensor],
    draws_for: Callable[[int], Draws],
    batch_rows: int,
    machine: Machine,
    see: Callable[[Prediction, Inputs], None],
    stacked: bool,
) -> int | Tensor:
    """Show `see` the model's predictions of all rows, piece by piece. Returns how much the rows count together."""
    axis = 1 if stacked else 0
    columns = {name: rows[name] for name in family.columns if name in rows}
    n = _length(family, rows, axis)
    if n == 0:
        raise ValueError("a mean loss over no rows: the held-out set is empty")
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
                see(prediction, piece)
            count = count + inputs.count
    finally:
        model.train(was_training)
    return count


def _pieces(family: ModelFamily, model: nn.Module, batch: Mapping[str, Tensor]) -> int:
    """Into how many pieces a batch is split, so that activations of large rows fit in memory."""
    at_once = rows_at_once_of(family)
    if at_once is not None:
        return -(-len(next(iter(batch.values()))) // at_once(model, batch))
    return -(-max(column.numel() for column in batch.values()) // PIECE_VALUES)
