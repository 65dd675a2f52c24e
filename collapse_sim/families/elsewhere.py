"""The place of a model in recipes without one: all samples were generated elsewhere, and nothing is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.families.base import Conditions, Inputs, Prediction, Rows

NEVER = "a recipe without a model builds none"


class Elsewhere(Component):
    """Models that were fitted elsewhere, of which only samples are known. No recipe names it, and it is never built."""

    kinds: ClassVar[tuple[str, ...]] = ()  # any: nothing is fitted to the data
    columns: ClassVar[tuple[str, ...]] = ()  # unknown
    terms: ClassVar[tuple[str, ...]] = ()

    def check(self, info: Info) -> None:
        """Accepts any data."""

    def build(self, info: Info) -> nn.Module:
        raise AssertionError(NEVER)

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        raise AssertionError(NEVER)

    def predict(self, model: nn.Module, inputs: Inputs) -> Prediction:
        raise AssertionError(NEVER)

    def loss(self, prediction: Prediction, inputs: Inputs) -> Tensor:
        raise AssertionError(NEVER)

    def distillation(self, student: Prediction, teacher: Prediction, inputs: Inputs) -> dict[str, Tensor]:
        raise AssertionError(NEVER)

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        raise AssertionError(NEVER)


class EnsembleElsewhere(Elsewhere):
    """The same for simulated points and regressions: their samples are scored for all seeds at once, with the random
    draws that the samples of closed forms are scored with."""

    kinds: ClassVar[tuple[str, ...]] = ("points", "regression")

    def solve(
        self, info: Info, rows: Rows, teacher: nn.Module | None, weights: Mapping[str, float], draws: Draws
    ) -> nn.Module:
        raise AssertionError(NEVER)

    def build_ensemble(self, info: Info, size: int) -> nn.Module:
        raise AssertionError(NEVER)


def elsewhere(data: Data | None) -> Elsewhere:
    """What stands for the models of samples of this data."""
    simulated = data is not None and data.seeded and data.kind in EnsembleElsewhere.kinds
    return EnsembleElsewhere() if simulated else Elsewhere()
