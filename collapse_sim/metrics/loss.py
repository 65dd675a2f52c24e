"""The held-out loss: how well a model explains real rows that no generation was fitted to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.held_out_loss import BATCH_ROWS, mean_loss, role_of_batch, row_losses
from collapse_sim.families.hooks import HasLossUnit, RowLosses
from collapse_sim.metrics.base import Evaluation, FeatureSpace, MetricNote, Need
from collapse_sim.metrics.influence import of_ratio
from collapse_sim.metrics.notes import note


class TestLoss(Component):
    """The family's own loss per row on the held-out real rows, under this generation's weights, without distillation.

    L_M(Test) of the KD paper. In the family's unit (nats per pixel, nats per row, squared error ...), so it compares
    arms of one family only. Noise and latents are the same for every arm, and batches do not depend on the machine.
    Values of rows are stored if the family has `row_losses`, but not for closed forms, whose rows are simulated anew
    for every seed.
    """

    __test__ = False  # for pytest: this is not a test

    version: ClassVar[int] = 2  # values of rows are stored, and summed in float64
    kinds: ClassVar[tuple[str, ...] | None] = None
    needs: ClassVar[tuple[Need, ...]] = ("model", "held_out")
    better: ClassVar[Literal["lower", "higher"] | None] = "lower"

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        if info.held_out < 1:
            raise ValueError("test_loss needs held-out rows, but this data has none")

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The number of rows."""
        return MetricNote(note({"held_out": info.held_out}, None))

    def unit_of(self, family: ModelFamily) -> str:
        """The unit of the family's loss; "" if it has none."""
        return str(family.loss_unit) if isinstance(family, HasLossUnit) else ""

    def score(self, evaluation: Evaluation) -> float | Tensor:
        family, model, rows = evaluation.family, evaluation.model(), evaluation.rows("held_out")
        loss = mean_loss(family, model, rows, _draws_of(evaluation), BATCH_ROWS, evaluation.machine, evaluation.stacked)
        return loss if evaluation.stacked else float(loss)

    def score_rows(self, evaluation: Evaluation) -> Mapping[str, Tensor] | None:
        """loss (n,) and, if a row's count is not 1, count (n,) int64."""
        family = evaluation.family
        if evaluation.stacked or not isinstance(family, RowLosses):
            return None
        model, rows = evaluation.model(), evaluation.rows("held_out")
        return row_losses(family, model, rows, _draws_of(evaluation), BATCH_ROWS, evaluation.machine)

    def sum_up(self, columns: Mapping[str, Tensor]) -> float:
        """The sum of losses over the sum of counts."""
        total = columns["loss"].double().sum()
        return float(total / (columns["count"].sum() if "count" in columns else len(columns["loss"])))

    def influence(self, columns: Mapping[str, Tensor], evaluation: Evaluation) -> Tensor | None:
        """The influence on a mean or on a ratio."""
        return of_ratio(columns["loss"], columns.get("count"))


def _draws_of(evaluation: Evaluation) -> Callable[[int], Draws]:
    return lambda batch: evaluation.draws(role_of_batch(batch))
