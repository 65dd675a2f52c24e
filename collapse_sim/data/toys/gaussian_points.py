"""Points from one Gaussian: the toy in which every quantity of model collapse has a closed form."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.split import Validated
from collapse_sim.data.toys.simulated import normal_rows

Finite = Annotated[float, Field(allow_inf_nan=False)]


class GaussianPoints(Validated):
    """x ~ N(mean, scale^2 I_d), drawn separately for each seed (Shumailov et al. 2024, section on Gaussians)."""

    dimensions: Annotated[int, Field(gt=0)] = 1
    """Number of dimensions, d."""
    mean: Finite | tuple[Finite, ...] = 0.0
    """Mean: one number for all dimensions, or a list of d numbers."""
    scale: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    """Standard deviation in every dimension."""
    rows: Annotated[int, Field(gt=0)] = 100
    """Number of real rows that generation 0 is fitted to."""
    fresh_rows: Annotated[int, Field(ge=0)] = 0
    """Number of further real rows, for the strategy `fresh`."""
    held_out_rows: Annotated[int, Field(gt=0)] = 1000
    """Number of rows that are never trained on."""

    kind: ClassVar[str] = "points"
    seeded: ClassVar[bool] = True

    @model_validator(mode="after")
    def _one_mean_per_dimension(self) -> GaussianPoints:
        if isinstance(self.mean, tuple) and len(self.mean) != self.dimensions:
            raise ValueError(
                f"`mean` has {len(self.mean)} entries, but `dimensions` is {self.dimensions}: "
                "give one number, or one for each dimension"
            )
        return self

    def inspect(self, folder: Path) -> Info:
        """`folder` is not used."""
        return Info(
            kind="points",
            columns={"x": ((self.dimensions,), "float64")},
            rows=self.rows,
            pool=self.rows + self.fresh_rows,
            held_out=self.held_out_rows,
            known_truths=("true_mean", "true_covariance", "log_density"),
        )

    def simulate(self, rows: int, draws: Draws) -> dict[str, Tensor]:
        """ "x" (rows, d), or (S, rows, d) with stacked draws; row i does not depend on `rows`."""
        noise = normal_rows(draws, rows, self.dimensions)
        return {"x": self.true_mean().to(noise) + self.scale * noise}

    def true_mean(self) -> Tensor:
        """(d,) float64."""
        mean = torch.tensor(self.mean, dtype=torch.float64)
        return mean.expand(self.dimensions).clone()

    def true_covariance(self) -> Tensor:
        """(d, d) float64."""
        return self.scale**2 * torch.eye(self.dimensions, dtype=torch.float64)

    def log_density(self, x: Tensor) -> Tensor:
        """(n, d) -> (n,) float64, in nats."""
        squares = ((x.double() - self.true_mean()) / self.scale).square().sum(1)
        return -0.5 * squares - self.dimensions * math.log(self.scale * math.sqrt(2 * math.pi))
