"""Linear regression with known weights."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import Evaluation, Need
from collapse_sim.metrics.closed_form import buffers, needs_buffers, true


class ExcessTestError(Component):
    """||w - w*||^2, which is E[(x w - x w*)^2] for x ~ N(0, I): the test error above that of the true weights w*.

    arXiv 2404.01413, with the closed forms of its growth. In squared units of y, from 0.
    """

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...] | None] = ("regression",)
    needs: ClassVar[tuple[Need, ...]] = ("model",)
    better: ClassVar[Literal["lower", "higher"] | None] = "lower"
    unit: ClassVar[str] = "squared unit of y"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        needs_buffers("excess_test_error", info, family, "weights")

    def score(self, evaluation: Evaluation) -> float | Tensor:
        (weights,) = buffers(evaluation, "weights")
        return (weights - true(evaluation, "weights")).square().sum(1)
