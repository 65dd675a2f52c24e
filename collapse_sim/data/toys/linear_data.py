"""Linear regression with known weights: the toy of "Is Model Collapse Inevitable?" (arXiv 2404.01413)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.split import Validated
from collapse_sim.data.toys.simulated import normal_rows


class LinearData(Validated):
    """x ~ N(0, I_d), y = x w* + noise N(0, 1), drawn separately for each seed; w* = signal / sqrt(d) in every entry."""

    dimensions: Annotated[int, Field(gt=0)] = 10
    """Number of dimensions of x, d."""
    rows: Annotated[int, Field(gt=0)] = 100
    """Number of real rows that generation 0 is fitted to, T."""
    noise: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0
    """Standard deviation of y given x."""
    signal: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0
    """Norm of w*, which is also the standard deviation of x w*."""
    fresh_rows: Annotated[int, Field(ge=0)] = 0
    """Number of further real rows, for the strategy `fresh`."""
    held_out_rows: Annotated[int, Field(gt=0)] = 1000
    """Number of rows that are never trained on."""

    kind: ClassVar[str] = "regression"
    seeded: ClassVar[bool] = True
    conditions: ClassVar[tuple[str, ...]] = ("x",)

    def inspect(self, folder: Path) -> Info:
        """`folder` is not used."""
        return Info(
            kind="regression",
            columns={"x": ((self.dimensions,), "float64"), "y": ((), "float64")},
            rows=self.rows,
            pool=self.rows + self.fresh_rows,
            held_out=self.held_out_rows,
            constants={"noise": self.noise},
        )

    def simulate(self, rows: int, draws: Draws) -> dict[str, Tensor]:
        """ "x" (rows, d) and "y" (rows,), with (S, ...) in front for stacked draws; row i does not depend on `rows`."""
        normal = normal_rows(draws, rows, self.dimensions + 1)
        x = normal[..., : self.dimensions].contiguous()
        y = self.noise * normal[..., -1]
        # One dimension at a time, since a matrix product may round differently for one seed and for many.
        for column, weight in zip(x.unbind(-1), self.true_weights().tolist(), strict=True):
            y = y + weight * column
        return {"x": x, "y": y}

    def true_weights(self) -> Tensor:
        """w*, (d,) float64."""
        return torch.full((self.dimensions,), self.signal / math.sqrt(self.dimensions), dtype=torch.float64)
