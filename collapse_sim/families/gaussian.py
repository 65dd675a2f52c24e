"""A Gaussian fitted by maximum likelihood: the model of Shumailov et al. (2024), whose collapse has a closed form."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.data.sources import REAL, Chain, Plan, Source
from collapse_sim.families.base import Conditions, Inputs, Rows, matmul_per_seed
from collapse_sim.families.moments import variance_curve


class GaussianModel(nn.Module):
    """Mean (S, d) and covariance (S, d, d), float64. S is the ensemble axis, one entry per seed."""

    mean: Tensor
    covariance: Tensor

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("covariance", covariance)


class Moments(NamedTuple):
    """A prediction: the model's parameters."""

    mean: Tensor  # (S, d)
    covariance: Tensor  # (S, d, d)


class Gaussian(Component):
    """Multivariate normal distribution, maximum likelihood (so with the biased variance, 1/N), closed form, float64."""

    kinds: ClassVar[tuple[str, ...]] = ("points",)
    columns: ClassVar[tuple[str, ...]] = ("x",)
    terms: ClassVar[tuple[str, ...]] = ("output",)
    loss_unit: ClassVar[str] = "nats per row"
    from_latents: ClassVar[bool] = True

    def check(self, info: Info) -> None:
        """Accepts any data of points."""

    def build(self, info: Info) -> nn.Module:
        return self.build_ensemble(info, 1)

    def build_ensemble(self, info: Info, size: int) -> nn.Module:
        (d,) = info.shape("x")
        identity = torch.eye(d, dtype=torch.float64).expand(size, d, d).clone()
        return GaussianModel(torch.zeros(size, d, dtype=torch.float64), identity)

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        return Inputs({"x": rows["x"]}, count=rows["x"].shape[-2])

    def predict(self, model: nn.Module, inputs: Inputs) -> Moments:
        assert isinstance(model, GaussianModel)
        return Moments(model.mean, model.covariance)

    def loss(self, prediction: Moments, inputs: Inputs) -> Tensor:
        """Negative log-likelihood in nats, summed over rows: (S,); infinite where the covariance is singular."""
        return self.row_losses(prediction, inputs).sum(-1)

    def row_losses(self, prediction: Moments, inputs: Inputs) -> Tensor:
        """The loss of every row: (S, n)."""
        x, d = inputs["x"], prediction.mean.shape[-1]
        factor, failed = torch.linalg.cholesky_ex(prediction.covariance)
        centred = (x - prediction.mean.unsqueeze(-2)).transpose(-1, -2)
        white = torch.linalg.solve_triangular(factor, centred, upper=False)
        log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        losses = 0.5 * (white.square().sum(-2) + (log_det + d * math.log(2 * math.pi)).unsqueeze(-1))
        return torch.where((failed > 0).unsqueeze(-1), torch.inf, losses)

    def distillation(self, student: Moments, teacher: Moments, inputs: Inputs) -> dict[str, Tensor]:
        """`output`: cross entropy of the student under the teacher, in nats, times the number of rows: (S,)."""
        n, d = inputs["x"].shape[-2:]
        factor = torch.linalg.cholesky(student.covariance)
        difference = (teacher.mean - student.mean).unsqueeze(-1)
        moment = teacher.covariance + difference @ difference.transpose(-1, -2)
        trace = torch.cholesky_solve(moment, factor).diagonal(dim1=-2, dim2=-1).sum(-1)
        log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return {"output": 0.5 * n * (trace + log_det + d * math.log(2 * math.pi))}

    def solve(
        self, info: Info, rows: Rows, teacher: nn.Module | None, weights: Mapping[str, float], draws: Draws
    ) -> nn.Module:
        """The moments of the rows, or with a teacher those of the mixture (rows + w teacher) / (1 + w). These minimise
        mean negative log-likelihood + w x cross entropy under the teacher."""
        x = rows["x"]
        mean = x.mean(-2)
        centred = x - mean.unsqueeze(-2)
        covariance = matmul_per_seed(centred.transpose(-1, -2), centred) / x.shape[-2]
        return _taught(mean, covariance, teacher, weights)

    def solve_weighted(
        self,
        info: Info,
        rows: Rows,
        row_weights: Tensor,
        teacher: nn.Module | None,
        weights: Mapping[str, float],
        draws: Draws,
    ) -> nn.Module:
        """The weighted moments (weighted maximum likelihood); with a teacher as in `solve`."""
        x = rows["x"]
        shares = (row_weights / row_weights.sum(-1, keepdim=True)).unsqueeze(-1)
        mean = torch.stack([(share * points).sum(-2) for share, points in zip(shares, x, strict=True)])
        centred = x - mean.unsqueeze(-2)
        covariance = matmul_per_seed((shares * centred).transpose(-1, -2), centred)
        return _taught(mean, (covariance + covariance.transpose(-1, -2)) / 2, teacher, weights)

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        assert isinstance(model, GaussianModel)
        values, vectors = torch.linalg.eigh(model.covariance)
        root = vectors * values.clamp(min=0).sqrt().unsqueeze(-2)
        noise = draws.normal(conditions.rows, model.mean.shape[-1])
        return {"x": model.mean.unsqueeze(-2) + matmul_per_seed(noise, root.transpose(-1, -2))}

    def feasible(self, model: nn.Module) -> Tensor:
        """(S,): whether the covariance is positive definite."""
        assert isinstance(model, GaussianModel)
        least: Tensor = torch.linalg.eigvalsh(model.covariance)[..., 0]
        return least > 0

    def projected(self, model: nn.Module) -> nn.Module:
        """The nearest positive semidefinite covariance in Frobenius norm: negative eigenvalues become 0."""
        assert isinstance(model, GaussianModel)
        values, vectors = torch.linalg.eigh(model.covariance)
        root = vectors * values.clamp(min=0).sqrt().unsqueeze(-2)
        return GaussianModel(model.mean, matmul_per_seed(root, root.transpose(-1, -2)))

    def theory(self, metric: str, chain: Chain, data: Data, info: Info) -> list[float] | None:
        """E[variance ratio] of every generation, for any strategy and any numbers of rows, with and without a teacher
        (moments.expected_variance). Generation k is the (k+1)-th fit.

        With N rows in every generation that is (1 - 1/N)^(k+1) under replace (Shumailov et al. 2024), and under
        accumulate prod_{i <= k+1} (1 - 1/(N i^2)) (Kazdan et al. 2024), for any number of generations.
        """
        plain = metric == "variance_ratio" and data.seeded and hasattr(data, "true_covariance")
        if plain and not any(chain.teachers) and _accumulates(chain.plans):
            n = chain.plans[0].rows
            return list(accumulate((1 - 1 / (n * i * i) for i in range(1, len(chain.plans) + 1)), operator.mul))
        return variance_curve(metric, chain, data, lambda rows, trace: (1.0, 0.0), mixes=True)


def _taught(mean: Tensor, covariance: Tensor, teacher: nn.Module | None, weights: Mapping[str, float]) -> GaussianModel:
    """The model of rows with these moments: with a teacher the moments of the mixture."""
    if teacher is None:
        return GaussianModel(mean, covariance)
    assert isinstance(teacher, GaussianModel)
    a = 1 / (1 + weights["output"])
    difference = (mean - teacher.mean).unsqueeze(-1)
    return GaussianModel(
        a * mean + (1 - a) * teacher.mean,
        a * covariance + (1 - a) * teacher.covariance + a * (1 - a) * difference @ difference.transpose(-1, -2),
    )


def _accumulates(plans: Sequence[Plan]) -> bool:
    """Whether every generation is fitted to N real rows and N rows of each previous generation."""
    n = plans[0].rows
    sources = tuple(Source(generation, n) for generation in range(REAL, len(plans) - 1))
    return all(plan == Plan(sources[: k + 1]) for k, plan in enumerate(plans))
