"""How well a model explains real rows that no generation was fitted to."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from collapse_sim.component import Component
from collapse_sim.data.base import Info
from collapse_sim.engine.evaluate import BATCH_ROWS, mean_loss, role_of_batch
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import Evaluation, Facts, FeatureSpace, Need
from collapse_sim.metrics.facts import note


class TestLoss(Component):
    """The family's own loss per row on the held-out real rows, under this generation's weights, without distillation.

    L_M(Test) of the KD paper. In the family's unit (nats per pixel, nats per row, squared error ...), so it compares
    arms of one family only. Noise and latents are the same for every arm, and batches do not move with the machine.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...] | None] = None
    needs: ClassVar[tuple[Need, ...]] = ("model", "held_out")
    better: ClassVar[Literal["lower", "higher"] | None] = "lower"

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        if info.held_out < 1:
            raise ValueError("test_loss needs held-out rows, but this data has none")

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> Facts:
        """Over how many rows."""
        return Facts(note({"held_out": info.held_out}, None))

    def unit_of(self, family: ModelFamily) -> str:
        """The unit of the family's loss, where it says one."""
        return str(getattr(family, "loss_unit", ""))

    def score(self, evaluation: Evaluation) -> float | Tensor:
        loss = mean_loss(
            evaluation.family,
            evaluation.model(),
            evaluation.rows("held_out"),
            lambda batch: evaluation.draws(role_of_batch(batch)),
            BATCH_ROWS,
            evaluation.machine,
            evaluation.stacked,
        )
        return loss if evaluation.stacked else float(loss)
