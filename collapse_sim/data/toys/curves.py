"""Curves in the plane with Gaussian noise around them: two moons, circles and the Swiss roll."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.core.randomness import Draws
from collapse_sim.data.toys.points import RoundMixture, SimulatedPoints

NODES = 10  # Gauss-Legendre nodes per panel

Noise = Annotated[float, Field(ge=1e-3, allow_inf_nan=False)]  # smaller values need too many nodes to integrate


class NoisyCurves(SimulatedPoints):
    """x = c(piece, u) + noise N(0, I_2), with u uniform on [0, 1) and every piece of the curve equally likely.

    The density is the integral over u of N(x; c(piece, u), noise^2 I_2), by Gauss-Legendre quadrature on panels no
    longer than twice the noise: a mixture of round Gaussians at the nodes. Its logarithm is accurate to 1e-6 nats
    within 10 standard deviations of the curve, and to 1e-9 within 6.
    """

    noise: Noise = 0.1
    """Standard deviation around the curve, in both directions."""

    pieces: ClassVar[int]

    def curve(self, piece: Tensor, u: Tensor) -> Tensor:
        """int64 (...), [0, 1] (...) -> (..., 2)."""
        raise NotImplementedError

    def greatest_speed(self) -> float:
        """The greatest length of curve per unit of u."""
        raise NotImplementedError

    def block(self, draws: Draws, rows: int) -> Tensor:
        piece = (self.pieces * draws.uniform(rows)).long()
        clean = self.curve(piece, draws.uniform(rows))
        return clean + self.noise * draws.normal(rows, 2)

    def mixture(self) -> RoundMixture:
        panels = math.ceil(self.greatest_speed() / (2 * self.noise))
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        u = torch.from_numpy((np.arange(panels)[:, None] + (nodes + 1) / 2).ravel() / panels)
        weight = torch.from_numpy(np.tile(weights / 2 / panels, panels))
        points = [self.curve(torch.full(u.shape, piece), u) for piece in range(self.pieces)]
        means = torch.cat(points)
        scales = torch.full((len(means),), self.noise, dtype=torch.float64)
        return RoundMixture(means, scales, weight.repeat(self.pieces) / self.pieces)


class TwoMoons(NoisyCurves):
    """Two interleaving half circles of radius 1: scikit-learn's make_moons, with random angles.

    The upper one is centred at (0, 0), the lower one at (1, 0.5). Used by arXiv 2310.00429 for iterative retraining.
    """

    pieces: ClassVar[int] = 2

    def curve(self, piece: Tensor, u: Tensor) -> Tensor:
        x, y = (math.pi * u).cos(), (math.pi * u).sin()
        return torch.stack([torch.where(piece == 0, x, 1 - x), torch.where(piece == 0, y, 0.5 - y)], -1)

    def greatest_speed(self) -> float:
        return math.pi


class Circles(NoisyCurves):
    """Two circles around the origin, of radius 1 and `factor`: scikit-learn's make_circles, with random angles."""

    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """Radius of the inner circle; that of the outer one is 1."""
    noise: Noise = 0.05
    """Standard deviation around the circles, in both directions."""

    pieces: ClassVar[int] = 2

    def curve(self, piece: Tensor, u: Tensor) -> Tensor:
        angle = 2 * math.pi * u
        radius = torch.where(piece == 0, 1.0, self.factor).to(u)
        return radius.unsqueeze(-1) * torch.stack([angle.cos(), angle.sin()], -1)

    def greatest_speed(self) -> float:
        return 2 * math.pi


class SwissRoll(NoisyCurves):
    """(t cos t, t sin t) / 5 with t uniform from 1.5 pi to 4.5 pi: scikit-learn's make_swiss_roll without its width.

    With noise 0.2 it is the Swiss roll of FFJORD (Grathwohl et al. 2019); the distance between turns is 1.26.
    """

    noise: Noise = 0.2
    """Standard deviation around the roll, in both directions."""

    pieces: ClassVar[int] = 1

    def curve(self, piece: Tensor, u: Tensor) -> Tensor:
        t = 1.5 * math.pi * (1 + 2 * u)
        return (t / 5).unsqueeze(-1) * torch.stack([t.cos(), t.sin()], -1)

    def greatest_speed(self) -> float:
        return 3 * math.pi / 5 * math.hypot(1.0, 4.5 * math.pi)
