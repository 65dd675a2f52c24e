"""What curations have in common that keep some of the candidates as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.remedies.base import Pool

DEFAULT_KEEP = 0.5


class Selection(Component):
    """Base: a share of the candidates is kept. Kept rows are in the order of the candidates, not of their scores,
    because strategies may take the first of them."""

    keeps_subset: ClassVar[bool] = True

    keep: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Share of the candidates that is kept: for n rows, n / keep are drawn. Default: 0.5. Not with `pool: past`."""
    pool: Literal["generation", "past"] = "generation"
    """The candidates. generation: each generation's samples, of which more are drawn. past: all rows that the strategy
    offers to a fit, real ones included, of which as many are kept as there are real rows (or as its `budget`)."""

    @model_validator(mode="after")
    def _keep_belongs_to_generations(self) -> Self:
        if self.pool == "past" and self.keep is not None:
            raise ValueError(
                "`keep` has no meaning with `pool: past`, where the strategy says how many rows there are and how many "
                "a fit takes: leave it out"
            )
        return self

    def candidates(self, rows: int) -> int:
        """rows / keep, rounded up."""
        if self.pool == "past":
            return rows
        return max(rows, math.ceil(rows / (self.keep or DEFAULT_KEEP) * (1 - 1e-12)))

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        """Accepts everything."""


def checked(scores: Tensor, candidates: int, what: str) -> Tensor:
    """The scores as (N,) float64 on the CPU. Raises ValueError unless there is one for each candidate and none is
    nan."""
    scores = scores.detach().cpu().double()
    if scores.shape != (candidates,):
        raise ValueError(f"{what} has the shape {tuple(scores.shape)}; needed: ({candidates},), one per candidate")
    bad = int(scores.isnan().sum())
    if bad:
        raise ValueError(f"{what} is nan for {bad} of {candidates} candidates")
    return scores


def tied(scores: Tensor, what: str, pool: Pool) -> dict[str, float]:
    """For the report: {"tied": 1.0} if all scores are the same number, so that candidates are kept at random.

    This is what a chain comes to whose samples have collapsed to a point. Raises ValueError if they are those of
    generation 0, whose model was fitted to real rows: then the score tells nothing apart.
    """
    if len(scores) < 2 or bool((scores != scores[0]).any()):
        return {}
    if pool.generation == 0:
        raise ValueError(
            f"{what} is {float(scores[0]):g} for all {len(scores)} candidates, so it does not tell which ones to keep"
        )
    return {"tied": 1.0}


def best(scores: Tensor, rows: int, draws: Draws) -> Tensor:
    """(rows,) int64: the candidates of the highest scores, ascending by number; ties are decided at random."""
    shuffled = draws.permutation(len(scores))
    order = shuffled[scores[shuffled].argsort(descending=True, stable=True)]
    return order[:rows].sort().values


def best_by_class(scores: Tensor, labels: Tensor, rows: int, draws: Draws, factors: Mapping[int, float]) -> Tensor:
    """The same within each class; a class gets its share of the candidates, times its factor (1 if it has none).

    Raises ValueError if a class has fewer candidates than that.
    """
    classes, counts = torch.unique(labels, return_counts=True)
    weights = torch.tensor([factors.get(int(c), 1.0) for c in classes], dtype=torch.float64) * counts
    if not float(weights.sum()):
        raise ValueError("the factors of all classes that were generated are 0: raise one")
    parts: list[Tensor] = []
    for label, count, quota in zip(classes, counts, _quotas(weights, rows), strict=True):
        if quota > count:
            raise ValueError(
                f"class {int(label)} has {int(count)} candidates, and {quota} are to be kept: lower `keep`, so that "
                "more are drawn, or make the factors of the classes more alike"
            )
        members = (labels == label).nonzero().squeeze(1)
        parts.append(members[best(scores[members], quota, draws)])
    return torch.cat(parts).sort().values


def _quotas(weights: Tensor, rows: int) -> list[int]:
    """Whole numbers proportional to the weights, with the sum `rows`: the largest remainders are rounded up."""
    exact = weights / weights.sum() * rows
    quotas = exact.floor().long()
    remaining = rows - int(quotas.sum())
    quotas[(exact - quotas).argsort(descending=True, stable=True)[:remaining]] += 1
    return [int(quota) for quota in quotas]
