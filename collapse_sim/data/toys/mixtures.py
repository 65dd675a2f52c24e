"""Mixtures of round Gaussians: their modes are known, so that lost modes can be counted."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.toys.points import RoundMixture, SimulatedPoints

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class Modes(SimulatedPoints):
    """A mixture whose components are its modes."""

    def inspect(self, folder: Path) -> Info:
        """`folder` is not used."""
        info = super().inspect(folder)
        return dataclasses.replace(info, constants={"modes": float(len(self.true_modes()))})

    def block(self, draws: Draws, rows: int) -> Tensor:
        means, scales, weights = self.mixture()
        cumulative = weights.cumsum(0)[:-1].to(draws.device)
        component = torch.searchsorted(cumulative, draws.uniform(rows).double(), right=True)
        noise = draws.normal(rows, means.shape[1])
        centres, spreads = means.to(noise)[component], scales.to(noise)[component]
        return centres + spreads.unsqueeze(-1) * noise

    def true_modes(self) -> Tensor:
        """Centres of the modes, (K, d) float64."""
        return self.mixture().means

    def mode_scales(self) -> Tensor:
        """Standard deviations of the modes, (K,) float64."""
        return self.mixture().scales

    def mode_weights(self) -> Tensor:
        """Shares of rows, (K,) float64, sum 1."""
        return self.mixture().weights


class EightGaussians(Modes):
    """Eight equal Gaussians, evenly spaced on a circle: the toy for counting lost modes.

    Radius 2 is that of Metz et al. (2017), who use the scale .02; the toys of FFJORD (Grathwohl et al. 2019) have
    radius 2.83 and scale .35. Used by arXiv 2310.00429 for iterative retraining.
    """

    radius: Positive = 2.0
    """Radius of the circle on which the centres are."""
    scale: Positive = 0.1
    """Standard deviation of each Gaussian, in every direction."""

    def mixture(self) -> RoundMixture:
        angles = [k * math.pi / 4 for k in range(8)]
        means = [[self.radius * math.cos(angle), self.radius * math.sin(angle)] for angle in angles]
        return RoundMixture(
            torch.tensor(means, dtype=torch.float64),
            torch.full((8,), self.scale, dtype=torch.float64),
            torch.full((8,), 1 / 8, dtype=torch.float64),
        )


class GaussianMixture(Modes):
    """A mixture of round Gaussians in any dimension; by default two of scale 1 with centres at a distance of 4."""

    means: Annotated[tuple[Finite, ...] | tuple[tuple[Finite, ...], ...], Field(min_length=1)] = (
        (-2.0, 0.0),
        (2.0, 0.0),
    )
    """A list of centres with d numbers each, or in one dimension a list of numbers."""
    scales: Positive | tuple[Positive, ...] = 1.0
    """Standard deviations: one number for all centres, or one per centre."""
    weights: tuple[Positive, ...] | None = None
    """Relative shares of rows, one per centre; they need not sum to 1. Default: equal."""

    @model_validator(mode="after")
    def _one_of_each_per_centre(self) -> GaussianMixture:
        lengths = {len(centre) for centre in self._centres()}
        if len(lengths) > 1 or 0 in lengths:
            raise ValueError(f"`means` has centres of {sorted(lengths)} numbers: give every centre the same number, d")
        for name, values in (("scales", self.scales), ("weights", self.weights)):
            if isinstance(values, tuple) and len(values) != len(self.means):
                raise ValueError(
                    f"`{name}` has {len(values)} entries, but there are {len(self.means)} `means`: give one for each"
                )
        return self

    def mixture(self) -> RoundMixture:
        means = torch.tensor(self._centres(), dtype=torch.float64)
        weights = torch.tensor(self.weights or [1.0] * len(means), dtype=torch.float64)
        scales = torch.tensor(self.scales, dtype=torch.float64)
        return RoundMixture(means, scales.expand(len(means)).clone(), weights / weights.sum())

    def _centres(self) -> list[tuple[float, ...]]:
        return [mean if isinstance(mean, tuple) else (mean,) for mean in self.means]
