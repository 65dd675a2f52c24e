"""What simulated point data of known density shares: a mixture of round Gaussians, drawn and evaluated exactly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.split import Validated
from collapse_sim.data.toys.simulated import in_blocks

PIECE = 2**17  # distances computed at a time: 1 MB, which fits into the CPU cache
TRUTHS = ("true_mean", "true_covariance", "log_density", "true_modes")


class RoundMixture(NamedTuple):
    """sum_k weights[k] N(means[k], scales[k]^2 I_d), float64."""

    means: Tensor  # (K, d)
    scales: Tensor  # (K,), standard deviations
    weights: Tensor  # (K,), sum 1

    def log_density(self, x: Tensor) -> Tensor:
        """(n, d) -> (n,), in nats; also valid far from every component, where the density itself is 0 in float64."""
        d = self.means.shape[1]
        heights = self.weights.log() - 0.5 * d * (2 * math.pi * self.scales.square()).log()
        half_precisions = 0.5 / self.scales.square()
        pieces = [
            (heights - half_precisions * _squared_distances(piece, self.means)).logsumexp(1)
            for piece in torch.split(x.double(), max(1, PIECE // len(self.means)))
        ]
        return torch.cat(pieces)

    def mean(self) -> Tensor:
        """(d,)"""
        return self.weights @ self.means

    def covariance(self) -> Tensor:
        """(d, d)"""
        offsets = self.means - self.mean()
        within = self.weights @ self.scales.square()
        return (self.weights * offsets.T) @ offsets + within * torch.eye(offsets.shape[1], dtype=torch.float64)


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()


class SimulatedPoints(Validated):
    """Points whose density is a mixture of round Gaussians, drawn separately for each seed."""

    rows: Annotated[int, Field(gt=0)] = 1000
    """Number of real rows that generation 0 is fitted to."""
    fresh_rows: Annotated[int, Field(ge=0)] = 0
    """Number of further real rows, for the strategy `fresh`."""
    held_out_rows: Annotated[int, Field(gt=0)] = 1000
    """Number of rows that are never trained on."""

    kind: ClassVar[str] = "points"
    seeded: ClassVar[bool] = True

    def mixture(self) -> RoundMixture:
        """The density."""
        raise NotImplementedError

    def block(self, draws: Draws, rows: int) -> Tensor:
        """`rows` rows: (rows, d), or (S, rows, d) with stacked draws."""
        raise NotImplementedError

    def inspect(self, folder: Path) -> Info:
        """`folder` is not used."""
        return Info(
            kind="points",
            columns={"x": ((self.mixture().means.shape[1],), "float64")},
            rows=self.rows,
            pool=self.rows + self.fresh_rows,
            held_out=self.held_out_rows,
            known_truths=tuple(name for name in TRUTHS if hasattr(self, name)),
        )

    def simulate(self, rows: int, draws: Draws) -> dict[str, Tensor]:
        """ "x" (rows, d), or (S, rows, d) with stacked draws; row i does not depend on `rows`."""
        return {"x": in_blocks(rows, lambda block_rows: self.block(draws, block_rows))}

    def log_density(self, x: Tensor) -> Tensor:
        """(n, d) -> (n,) float64, in nats."""
        return self.mixture().log_density(x)

    def true_mean(self) -> Tensor:
        """(d,) float64."""
        return self.mixture().mean()

    def true_covariance(self) -> Tensor:
        """(d, d) float64."""
        return self.mixture().covariance()
