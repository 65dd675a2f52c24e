"""The golden-ratio weight of real against generated rows (He, Xu & Cheng, arXiv 2502.18049)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.data.base import Data, Info
from collapse_sim.data.sources import REAL, Plan
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.hooks import check_row_weights


class Golden(Component):
    """Loss = w mean(real rows) + (1 - w) mean(generated rows) (He, Xu & Cheng, arXiv 2502.18049).

    Of n + m rows, n real and m generated, real ones weigh w (n + m) / n and generated ones (1 - w) (n + m) / m. The
    default w = (sqrt(1 + 4 k) - 1) / (2 k), k = m / n, minimises the asymptotic variance of a mean when every
    generation gets n new real rows and k n rows of its predecessor: n x variance is then w. Texts count by their
    tokens, as they do without weights. It changes nothing in a generation without real rows, or without generated ones.
    """

    w: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """The real rows' part of the loss. Default: the golden ratio's, from the plan's numbers of rows."""

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        """Raises ValueError for a family without row losses."""
        check_row_weights(family)

    def changes(self, plan: Plan) -> bool:
        """False for rows of one kind, and where w is the real rows' share of all rows."""
        real, generated = _counts(plan)
        if not real or not generated:
            return False
        return not math.isclose(self.part(plan), real / (real + generated), rel_tol=1e-9)

    def check_plans(self, plans: Sequence[Plan]) -> None:
        """Raises ValueError when no generation is fitted to real and generated rows."""
        if not any(all(_counts(plan)) for plan in plans):
            raise ValueError(
                "golden weighs real rows against generated ones, and no generation of this arm is fitted to both: use "
                "`data: mix`, fresh or accumulate, or remove it"
            )

    def part(self, plan: Plan) -> float:
        """w of a fit to these rows, some of which are real and some generated."""
        real, generated = _counts(plan)
        return golden_ratio(generated / real) if self.w is None else self.w

    def of_rows(self, plan: Plan, generations: Tensor, base: Tensor) -> Tensor:
        """Within real rows, and within generated ones, rows count as under `base`. A drawn subset that happens to have
        rows of one kind only keeps its weights."""
        real = generations == REAL
        if bool(real.all()) or not bool(real.any()):
            return base
        w, n = self.part(plan), len(base)
        return torch.where(real, w * n / base[real].sum(), (1 - w) * n / base[~real].sum()) * base


def golden_ratio(k: float) -> float:
    """w* = (sqrt(1 + 4 k) - 1) / (2 k) for k generated rows per real one."""
    return 2 / (1 + math.sqrt(1 + 4 * k))  # the same, without cancellation


def _counts(plan: Plan) -> tuple[int, int]:
    """The numbers of real and of generated rows."""
    real = sum(source.rows for source in plan.sources if source.generation == REAL)
    return real, sum(source.rows for source in plan.sources) - real
