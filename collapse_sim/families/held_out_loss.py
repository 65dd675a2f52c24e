"""The mean held-out loss of a model, during a fit and for the metric test_loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from collapse_sim.core.errors import PluginError
from collapse_sim.core.randomness import Draws
from collapse_sim.families.base import Inputs, ModelFamily, Prediction
from collapse_sim.families.hooks import RowLosses, RowsAtOnce, row_counts_of

if TYPE_CHECKING:
    from collapse_sim.core.machine import Machine

BATCH_ROWS = 1000  # determines which rows share a batch's draws, so it is the same wherever test losses are compared
PIECE_VALUES = 2**20  # values passed to the network at a time: 85 rows of 3x64x64 pixels, all 1,000 of 1x32x32


def role_of_batch(batch: int) -> str:
    """The role of a batch's draws. With equal seeds, the held-out loss during a fit equals the metric's."""
    return f"test_loss/{batch}"


@dataclass(frozen=True)
class HeldOutLoss:
    """The family's own loss of a model on rows, batch by batch, in their order; meanwhile the model is in eval mode.

    `draws_for(i)` is the randomness of batch i, which may be on another device than the model: noise is added where it
    is drawn. `PIECE_VALUES` limits how many rows of a batch the network gets at a time.
    """

    family: ModelFamily
    model: nn.Module
    rows: Mapping[str, Tensor]  # (n, ...), stacked (S, n, ...)
    draws_for: Callable[[int], Draws]
    batch_rows: int
    machine: Machine
    stacked: bool = False

    def mean(self) -> Tensor:
        """The loss divided by its count (rows or tokens) over all rows: float64 on the CPU.

        A scalar; stacked one loss per ensemble member, (S,). Raises ValueError when there are no rows.
        """
        total: Tensor = torch.zeros((), dtype=torch.float64, device=self.machine.device)

        def add(prediction: Prediction, piece: Inputs) -> None:
            nonlocal total
            total = total + self.family.loss(prediction, piece).double()

        count = self._predict_all(add)
        return total.cpu() / torch.as_tensor(count).cpu()

    def by_row(self) -> dict[str, Tensor]:
        """The "loss" (n,) of every row and, if the family has `row_counts`, its "count" (n,) int64, on the CPU; stacked
        (S, n).

        `mean` divides the sums of these columns. Rows are in the order in which the family's `corrupt` leaves a batch,
        which is the same for all its models. Raises PluginError if the losses are not one per row, or the counts do
        not add up.
        """
        family = self.family
        assert isinstance(family, RowLosses)
        losses: list[Tensor] = []
        counts: list[Tensor] = []

        def append(prediction: Prediction, piece: Inputs) -> None:
            losses.append(family.row_losses(prediction, piece).cpu())
            piece_counts = row_counts_of(family, piece)
            if piece_counts is not None:
                counts.append(piece_counts.cpu())

        count = self._predict_all(append)
        n, shape = self._length, next(iter(self._columns.values())).shape[: 1 + self.stacked]
        columns = {"loss": torch.cat(losses, -1)} | ({"count": torch.cat(counts, -1)} if counts else {})
        row_total = int(columns["count"].sum()) if counts else n
        batches = -(-n // self.batch_rows) if counts else 0  # a batch without a token has the count 1
        if any(column.shape != shape for column in columns.values()) or not 0 <= int(count) - row_total <= batches:
            raise PluginError(
                f"{type(family).__name__}: `row_losses` returned {tuple(columns['loss'].shape)} for {n} rows, whose "
                f"counts add up to {row_total} of {int(count)}; needed: {tuple(shape)}, and `row_counts` if a row's "
                "count is not 1"
            )
        return columns

    @property
    def _columns(self) -> dict[str, Tensor]:
        return {name: self.rows[name] for name in self.family.columns if name in self.rows}

    @property
    def _length(self) -> int:
        return next(iter(self._columns.values())).shape[int(self.stacked)]

    @torch.no_grad()
    def _predict_all(self, use: Callable[[Prediction, Inputs], None]) -> int | Tensor:
        """Call `use` with the model's predictions of all rows, piece by piece. Returns the total count."""
        family, model, device = self.family, self.model, self.machine.device
        columns, n = self._columns, self._length
        if n == 0:
            raise ValueError("there is no mean loss over no rows: the held-out set is empty")
        count: int | Tensor = 0
        was_training = model.training
        model.eval()
        try:
            for i, first in enumerate(range(0, n, self.batch_rows)):
                draws = self.draws_for(i)
                taken = (int(self.stacked), first, min(self.batch_rows, n - first))
                batch = {name: column.narrow(*taken).to(draws.device) for name, column in columns.items()}
                inputs = family.corrupt(batch, draws)
                moved = {name: tensor.to(device) for name, tensor in inputs.tensors.items()}
                inputs = dataclasses.replace(inputs, tensors=moved)
                for piece in [inputs] if self.stacked else inputs.split(_pieces(family, model, batch)):
                    with self.machine.autocast():
                        prediction = family.predict(model, piece)
                    use(prediction, piece)
                count = count + inputs.count
        finally:
            model.train(was_training)
        return count


def _pieces(family: ModelFamily, model: nn.Module, batch: Mapping[str, Tensor]) -> int:
    """The number of pieces that a batch is split into, so that activations of large rows fit in memory."""
    if isinstance(family, RowsAtOnce):
        return -(-len(next(iter(batch.values()))) // family.rows_at_once(model, batch))
    return -(-max(column.numel() for column in batch.values()) // PIECE_VALUES)
