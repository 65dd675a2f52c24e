"""A mixture of Gaussians fitted by expectation maximisation: the second toy of "The Curse of Recursion"."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.core.errors import RecipeError
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.data.sources import Chain
from collapse_sim.families.base import Conditions, Inputs, Rows
from collapse_sim.families.moments import variance_curve

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class GMMModel(nn.Module):
    """Weights (S, K), means (S, K, d) and covariances (S, K, d, d) of the components, float64; S is the ensemble axis.

    `mean` (S, d) and `covariance` (S, d, d) are those of the whole mixture. `converged` (S,) is whether EM converged
    before `max_iter`.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    mean: Tensor
    covariance: Tensor
    converged: Tensor

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor, converged: Tensor) -> None:
        super().__init__()
        mean = (weights.unsqueeze(-1) * means).sum(1)
        centred = means - mean.unsqueeze(1)
        moments = covariances + centred.unsqueeze(-1) * centred.unsqueeze(-2)
        self.register_buffer("weights", weights)
        self.register_buffer("means", means)
        self.register_buffer("covariances", covariances)
        self.register_buffer("mean", mean)
        self.register_buffer("covariance", (weights[..., None, None] * moments).sum(1))
        self.register_buffer("converged", converged)


class Components(NamedTuple):
    """A prediction: the model's parameters."""

    weights: Tensor  # (S, K)
    means: Tensor  # (S, K, d)
    covariances: Tensor  # (S, K, d, d)


class GMM(Component):
    """Mixture of Gaussians with full covariances, maximum likelihood by EM (scikit-learn), float64.

    EM starts from a k-means clustering of the rows and finds a local optimum: the best of `n_init` runs.
    """

    components: Annotated[int, Field(gt=0)] = 2
    """Number of Gaussians in the mixture."""
    n_init: Annotated[int, Field(gt=0)] = 1
    """Number of EM runs; the result with the highest likelihood is used."""
    tol: Positive = 1e-6
    """EM stops when the log-likelihood per row rises by less than this, in nats."""
    max_iter: Annotated[int, Field(gt=0)] = 1000
    """Maximum number of EM steps of each run."""
    reg: Positive = 1e-6
    """Added to the diagonal of every covariance, in the data's unit squared."""

    kinds: ClassVar[tuple[str, ...]] = ("points",)
    columns: ClassVar[tuple[str, ...]] = ("x",)
    terms: ClassVar[tuple[str, ...]] = ("output",)
    loss_unit: ClassVar[str] = "nats per row"

    def check(self, info: Info) -> None:
        if info.rows < max(2, self.components):
            raise ValueError(
                f"gmm with {self.components} components needs at least {max(2, self.components)} rows, the data has "
                f"{info.rows}: lower model.components or raise data.rows"
            )

    def build(self, info: Info) -> nn.Module:
        return self.build_ensemble(info, 1)

    def build_ensemble(self, info: Info, size: int) -> nn.Module:
        (d,) = info.shape("x")
        k = self.components
        identity = torch.eye(d, dtype=torch.float64).expand(size, k, d, d).clone()
        return GMMModel(
            torch.full((size, k), 1 / k, dtype=torch.float64),
            torch.zeros(size, k, d, dtype=torch.float64),
            identity,
            torch.ones(size, dtype=torch.bool),
        )

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        """The rows, and the draws that n rows of a teacher are generated from: (S, n) uniform, (S, n, d) normal."""
        n, d = rows["x"].shape[-2:]
        return Inputs({"x": rows["x"], "pick": draws.uniform(n), "noise": draws.normal(n, d)}, count=n)

    def predict(self, model: nn.Module, inputs: Inputs) -> Components:
        assert isinstance(model, GMMModel)
        return Components(model.weights, model.means, model.covariances)

    def loss(self, prediction: Components, inputs: Inputs) -> Tensor:
        """Negative log-likelihood in nats, summed over rows: (S,)."""
        return self.row_losses(prediction, inputs).sum(-1)

    def row_losses(self, prediction: Components, inputs: Inputs) -> Tensor:
        """The loss of every row: (S, n)."""
        return -log_density(prediction, inputs["x"])

    def distillation(self, student: Components, teacher: Components, inputs: Inputs) -> dict[str, Tensor]:
        """`output`: cross entropy of the student under the teacher, in nats, times the number of rows: (S,).

        It has no closed form between mixtures. This is its unbiased estimate on n rows of the teacher, generated from
        `corrupt`'s draws.
        """
        return {"output": -log_density(student, _rows_of(teacher, inputs["pick"], inputs["noise"])).sum(-1)}

    def solve(
        self, info: Info, rows: Rows, teacher: nn.Module | None, weights: Mapping[str, float], draws: Draws
    ) -> nn.Module:
        """EM on each seed's rows; with a teacher, on the n rows and round(w n) rows drawn from the teacher.

        Their mean negative log-likelihood is, up to the factor 1 / (1 + w), that of the rows + w x an unbiased
        estimate of the cross entropy under the teacher. So any weight is possible, in steps of 1 / n.
        Raises RecipeError when there are fewer rows than components, or when rounding makes a covariance singular.
        """
        return self._solve(rows["x"], None, teacher, weights, draws)

    def solve_weighted(
        self,
        info: Info,
        rows: Rows,
        row_weights: Tensor,
        teacher: nn.Module | None,
        weights: Mapping[str, float],
        draws: Draws,
    ) -> nn.Module:
        """The same, where each row's responsibilities and log-likelihood are multiplied by its weight (weighted maximum
        likelihood); the teacher's rows have the weight 1."""
        return self._solve(rows["x"], row_weights, teacher, weights, draws)

    def _solve(
        self,
        x: Tensor,
        row_weights: Tensor | None,
        teacher: nn.Module | None,
        weights: Mapping[str, float],
        draws: Draws,
    ) -> nn.Module:
        starts = draws.integers(2**31 - 1, 1)[:, 0].tolist()
        if teacher is not None:
            assert isinstance(teacher, GMMModel)
            (n, d), prediction = x.shape[1:], Components(teacher.weights, teacher.means, teacher.covariances)
            m = round(weights["output"] * n)
            x = torch.cat([x, _rows_of(prediction, draws.uniform(m), draws.normal(m, d))], dim=1)
            if row_weights is not None:
                row_weights = torch.cat([row_weights, row_weights.new_ones(len(x), m)], dim=1)
        if x.shape[1] < max(2, self.components):
            raise RecipeError(
                f"gmm with {self.components} components needs at least {max(2, self.components)} rows, a generation "
                f"has {x.shape[1]}: lower model.components, or give the strategy more rows"
            )
        return _fit(self, x, row_weights, starts)

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        assert isinstance(model, GMMModel)
        prediction = Components(model.weights, model.means, model.covariances)
        d = model.means.shape[-1]
        return {"x": _rows_of(prediction, draws.uniform(conditions.rows), draws.normal(conditions.rows, d))}

    def theory(self, metric: str, chain: Chain, data: Data, info: Info) -> list[float] | None:
        """E[variance ratio] of every generation without a teacher, for any plan of rows.

        EM's last step gives the mixture the mean of its rows and their covariance + reg I, wherever EM ends:
        sum_k w_k (C_k + m_k m_k^T) weights each row's x x^T with responsibilities that sum to 1. So the variance of
        the whole mixture follows the curve of a single Gaussian (moments.expected_variance).
        """
        (d,) = info.shape("x")
        return variance_curve(metric, chain, data, lambda n, trace: (1.0, self.reg * d / trace))


def log_density(model: Components, x: Tensor) -> Tensor:
    """(S, n, d) -> (S, n), nats."""
    factor = torch.linalg.cholesky(model.covariances)
    centred = (x.unsqueeze(1) - model.means.unsqueeze(2)).mT
    white = torch.linalg.solve_triangular(factor, centred, upper=False)
    log_volume = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) + x.shape[-1] / 2 * math.log(2 * math.pi)
    log_joint = (model.weights.log() - log_volume).unsqueeze(-1) - 0.5 * white.square().sum(-2)
    total: Tensor = log_joint.logsumexp(1)
    return total


def _rows_of(model: Components, pick: Tensor, noise: Tensor) -> Tensor:
    """Rows (S, n, d) of each mixture, from uniform draws (S, n) in [0, 1) and standard normal draws (S, n, d).

    One seed at a time: kernels over the ensemble sum in an order that depends on its size.
    """
    rows = []
    for weights, means, covariances, u, z in zip(*model, pick, noise, strict=True):
        which = torch.searchsorted(weights.cumsum(0), u, right=True).clamp(max=len(weights) - 1)
        factor = torch.linalg.cholesky(covariances)
        rows.append(means[which] + (factor[which] @ z.unsqueeze(-1)).squeeze(-1))
    return torch.stack(rows)


def _fit(family: GMM, x: Tensor, row_weights: Tensor | None, starts: list[int]) -> GMMModel:
    """scikit-learn's EM for each seed of x (S, n, d), in one thread: sums depend on the number of threads."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    from collapse_sim.families.weighted_em import WeightedMixture

    mixture = GaussianMixture if row_weights is None else WeightedMixture
    of_rows = [None] * len(x) if row_weights is None else row_weights.cpu().numpy()
    fits = []
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the model has `converged` for each seed
        for points, weights, start in zip(x.cpu().numpy(), of_rows, starts, strict=True):
            fit = mixture(
                family.components,
                tol=family.tol,
                reg_covar=family.reg,
                max_iter=family.max_iter,
                n_init=family.n_init,
                random_state=start,
            )
            if weights is not None:
                fit.row_weights = weights
            try:
                fits.append(fit.fit(points))
            except ValueError as error:
                raise RecipeError(
                    f"gmm: EM failed: `reg` = {family.reg:g} is too small for rows of this scale; "
                    f"raise model.reg, or lower model.components ({error})"
                ) from error

    def stacked(name: str) -> Tensor:
        return torch.stack([torch.as_tensor(getattr(fit, name)) for fit in fits]).to(x.device)

    return GMMModel(stacked("weights_"), stacked("means_"), stacked("covariances_"), stacked("converged_"))
