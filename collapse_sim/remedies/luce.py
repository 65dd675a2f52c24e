"""Choice among candidates by preference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info, conditions_of
from collapse_sim.families.base import ModelFamily
from collapse_sim.remedies.base import Choice, Pool
from collapse_sim.remedies.rewards import USED, Reward
from collapse_sim.remedies.selection import checked

LARGE = 16  # candidates per row that stand for infinitely many


class Luce(Component):
    """One of k candidates is kept for every row, with a probability proportional to exp(tau r).

    Luce's choice rule (Ferbach et al. 2024, arXiv 2407.09499, equation 2). k = 2 is the model of Bradley and Terry.

    For k -> inf the kept rows have the density p exp(tau r) / E[exp(tau r)]: one large pool is resampled with these
    weights. Of a Gaussian N(m, s^2) with r = b x that is N(m + b s^2, s^2), and with r = -(x - c)^2 / (2 t^2) it is
    normal with the precision 1/s^2 + 1/t^2. Without real rows a chain ends at the maximum of r.
    """

    k: Annotated[int, Field(ge=1)] | Literal["inf"] = 2
    """Candidates per row; inf: rows are resampled from all candidates together."""
    reward: Reward
    """What is preferred."""
    tau: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0
    """Inverse temperature: 0 chooses at random."""
    per_row: Annotated[int, Field(ge=2)] | None = None
    """With `k: inf`: candidates that are drawn for every row. Default: 16."""
    pool: Literal["generation", "past"] = "generation"
    """The candidates. generation: each generation's samples, of which more are drawn. past: all rows that the strategy
    offers to a fit, real ones included; the k candidates of a row are then drawn from them with replacement."""

    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"reward": {"kind": "linear"}}, {"reward": {"kind": "class"}})

    @model_validator(mode="after")
    def _per_row_is_for_infinitely_many(self) -> Self:
        if self.per_row is not None and (self.k != "inf" or self.pool == "past"):
            raise ValueError("`per_row` says how many candidates `k: inf` draws with `pool: generation`: leave it out")
        return self

    def describe(self) -> dict[str, Any]:
        """The source of a user's own reward, too."""
        return {**super().describe(), **self.reward.source()}

    @property
    def own_functions(self) -> tuple[str, ...]:
        return () if self.reward.kind in USED else (self.reward.kind,)

    @property
    def keeps_all(self) -> bool:
        return self.k == 1

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        self.reward.check(info)

    def candidates(self, rows: int) -> int:
        """k per row."""
        if self.pool == "past":
            return rows
        return rows * (self.per_row or LARGE if self.k == "inf" else self.k)

    def choose(self, pool: Pool, rows: int, draws: Draws) -> Choice:
        rewards = checked(self.reward.of(pool), len(pool), f"the reward {self.reward.kind!r}")
        if not bool(rewards.isfinite().all()):
            raise ValueError(f"the reward {self.reward.kind!r} is infinite for some candidates; it must be finite")
        logits = self.tau * rewards
        grouped = self.pool == "generation" and (self.k != "inf" or bool(conditions_of(pool.data, pool.family)))
        if grouped:
            groups = torch.arange(len(pool)).reshape(-1, rows).T  # (rows, k): one candidate of each draw
            index = _chosen(logits, groups, draws)
        elif self.k == "inf":
            index = _resampled(logits, rows, draws)
        else:
            index = _chosen(logits, draws.integers(len(pool), rows, self.k), draws)
        weights = logits.softmax(0)
        figures = {
            "reward": float(rewards[index].mean()),
            "reward_of_candidates": float(rewards.mean()),
            "effective_share": float(1 / weights.square().sum() / len(pool)),
        }
        return Choice(index, report=figures)


def _chosen(logits: Tensor, groups: Tensor, draws: Draws) -> Tensor:
    """One candidate of each group (rows, k), with probability softmax(logits): the largest logit + Gumbel noise."""
    gumbel = -(-_uniform(draws, *groups.shape).log()).log()
    winners = (logits[groups] + gumbel).argmax(1, keepdim=True)
    return groups.gather(1, winners).squeeze(1)


def _resampled(logits: Tensor, rows: int, draws: Draws) -> Tensor:
    """`rows` candidates with replacement, with probability softmax(logits)."""
    cumulative = logits.softmax(0).cumsum(0)
    index = torch.searchsorted(cumulative, _uniform(draws, rows) * cumulative[-1])
    return index.clamp(max=len(logits) - 1)


def _uniform(draws: Draws, *shape: int) -> Tensor:
    """Uniform on (0, 1) in float64, of 48 bits: 24 would make rare candidates impossible in a large pool."""
    high, low = draws.uniform(*shape).double(), draws.uniform(*shape).double()
    return (high + low * 2.0**-24).clamp(min=2.0**-60)
