"""Kernel density estimation with a Gaussian kernel: the toy of "Collapse or Thrive" that only smooths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.data.sources import Chain
from collapse_sim.families.base import Conditions, Inputs, Rows
from collapse_sim.families.moments import variance_curve

Width = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
PAIRS = 2**17  # distances in memory at a time: 1 MB stays in the cache, three times as fast as 16 MB


class KDEModel(nn.Module):
    """Points (S, n, d) and the kernel's covariance (S, d, d), float64; S is the ensemble axis.

    `mean` (S, d) and `covariance` (S, d, d) are those of the estimated density. `weights` (S, n) are the shares of the
    points, which add up to 1, or None where they are equal. A state with any number of points can be loaded, with
    weights or without: n differs between generations.
    """

    points: Tensor
    kernel: Tensor
    mean: Tensor
    covariance: Tensor
    weights: Tensor | None

    def __init__(
        self, points: Tensor, kernel: Tensor, mean: Tensor, covariance: Tensor, weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("points", points)
        self.register_buffer("kernel", kernel)
        self.register_buffer("mean", mean)
        self.register_buffer("covariance", covariance)
        self.register_buffer("weights", weights)
        self.register_load_state_dict_pre_hook(_resize_points)  # type: ignore[no-untyped-call]


def _resize_points(model: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    loaded = state.get(f"{prefix}points")
    if loaded is not None:
        assert isinstance(model, KDEModel)
        model.points = model.points.new_empty(loaded.shape)
        model.weights = model.points.new_empty(loaded.shape[:-1]) if f"{prefix}weights" in state else None


class Estimate(NamedTuple):
    """A prediction: the model's points and kernel."""

    points: Tensor  # (S, n, d)
    kernel: Tensor  # (S, d, d)
    weights: Tensor | None  # (S, n)


class KDE(Component):
    """Gaussian kernel density estimate, exact sampling and likelihood, float64.

    `bandwidth` is the kernel's standard deviation in the data's unit, the same in all directions (h, with covariance
    h^2 I); or a rule f(n) for n rows, with covariance f^2 x that of the rows (unbiased), as in SciPy:
    scott, n^(-1 / (d + 4)), or silverman, (n (d + 2) / 4)^(-1 / (d + 4)).

    It minimises no loss (the likelihood of its own rows is greatest with h = 0) that a teacher's term could be added
    to, so it has no distillation terms.
    """

    bandwidth: Width | Literal["scott", "silverman"] = "silverman"
    """The kernel's standard deviation in the data's unit, or a rule for it."""

    kinds: ClassVar[tuple[str, ...]] = ("points",)
    columns: ClassVar[tuple[str, ...]] = ("x",)
    terms: ClassVar[tuple[str, ...]] = ()
    loss_unit: ClassVar[str] = "nats per row"

    def check(self, info: Info) -> None:
        (d,) = info.shape("x")
        if isinstance(self.bandwidth, str) and info.rows <= d:
            raise ValueError(
                f"bandwidth: {self.bandwidth} uses the covariance of the rows, which needs more than {d} rows in "
                f"{d} dimensions, but the data has {info.rows}: raise data.rows or set a number"
            )

    def build(self, info: Info) -> nn.Module:
        return self.build_ensemble(info, 1)

    def build_ensemble(self, info: Info, size: int) -> nn.Module:
        (d,) = info.shape("x")
        zeros = torch.zeros(size, info.rows, d, dtype=torch.float64)
        identity = torch.eye(d, dtype=torch.float64).expand(size, d, d)
        return KDEModel(zeros, identity.clone(), zeros[:, 0].clone(), identity.clone())

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        return Inputs({"x": rows["x"]}, count=rows["x"].shape[-2])

    def predict(self, model: nn.Module, inputs: Inputs) -> Estimate:
        assert isinstance(model, KDEModel)
        return Estimate(model.points, model.kernel, model.weights)

    def loss(self, prediction: Estimate, inputs: Inputs) -> Tensor:
        """Negative log-likelihood in nats, summed over rows: (S,); infinite where the kernel is singular."""
        return self.row_losses(prediction, inputs).sum(-1)

    def row_losses(self, prediction: Estimate, inputs: Inputs) -> Tensor:
        """The loss of every row: (S, n)."""
        points, kernels, x = prediction.points, prediction.kernel, inputs["x"]
        shares = [None] * len(x) if prediction.weights is None else prediction.weights
        return -torch.stack([log_density(*of_seed) for of_seed in zip(points, kernels, x, shares, strict=True)])

    def distillation(self, student: Estimate, teacher: Estimate, inputs: Inputs) -> dict[str, Tensor]:
        return {}

    def solve(
        self, info: Info, rows: Rows, teacher: nn.Module | None, weights: Mapping[str, float], draws: Draws
    ) -> nn.Module:
        """The rows themselves, and the kernel."""
        fits = [self._of_seed(points) for points in rows["x"]]
        return KDEModel(rows["x"].clone(), *(torch.stack(part) for part in zip(*fits, strict=True)))

    def solve_weighted(
        self,
        info: Info,
        rows: Rows,
        row_weights: Tensor,
        teacher: nn.Module | None,
        weights: Mapping[str, float],
        draws: Draws,
    ) -> nn.Module:
        """The rows with their shares. As in SciPy, a rule takes n_eff = 1 / sum of squared shares for n, and the
        weighted covariance divided by 1 - 1 / n_eff."""
        shares = row_weights / row_weights.sum(-1, keepdim=True)
        fits = [self._of_seed(points, each) for points, each in zip(rows["x"], shares, strict=True)]
        kernel, mean, covariance = (torch.stack(part) for part in zip(*fits, strict=True))
        return KDEModel(rows["x"].clone(), kernel, mean, covariance, shares)

    def _of_seed(self, points: Tensor, shares: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Kernel, and the density's mean and covariance, from points (n, d) and their shares (n,), if they differ."""
        n, d = points.shape
        rows: float = n
        if shares is None:
            mean = points.mean(0)
            covariance = (points - mean).T @ (points - mean) / n
        else:
            mean = shares @ points
            covariance = (shares[:, None] * (points - mean)).T @ (points - mean)
            rows = 1 / float(shares.square().sum())
        if isinstance(self.bandwidth, str):
            kernel = self._share(rows, d) * covariance
        else:
            kernel = self.bandwidth**2 * torch.eye(d, dtype=points.dtype, device=points.device)
        return kernel, mean, covariance + kernel

    def _share(self, n: float, d: int) -> float:
        """The kernel's covariance over the rows' biased covariance, under a rule."""
        f: float = (n if self.bandwidth == "scott" else n * (d + 2) / 4) ** (-1 / (d + 4))
        return f * f * n / (n - 1) if n > 1 else f * f * n

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        """One of the points, with replacement, plus noise of the kernel's covariance."""
        assert isinstance(model, KDEModel)
        n, d = model.points.shape[1:]
        if model.weights is None:
            pick = draws.integers(n, conditions.rows)
        else:
            pick = torch.searchsorted(model.weights.cumsum(1), draws.uniform(conditions.rows), right=True).clamp(
                max=n - 1
            )
        noise = draws.normal(conditions.rows, d)
        rows = []
        for points, kernel, which, z in zip(model.points, model.kernel, pick, noise, strict=True):
            values, vectors = torch.linalg.eigh(kernel)
            rows.append(points[which] + z @ (vectors * values.clamp(min=0).sqrt()).T)
        return {"x": torch.stack(rows)}

    def theory(self, metric: str, chain: Chain, data: Data, info: Info) -> list[float] | None:
        """E[variance ratio] of every generation, for any plan of rows; generation k is fit t = k + 1.

        A row of the estimate is a row of the data plus independent noise, so its mean is that of the rows and its
        covariance C = S + H, with S their biased covariance and H the kernel's. Write s for E[tr S] and r for tr H in
        units of the true trace, with h fixed.

        Replace, N rows: E[S_{t+1} | C_t] = (1 - 1/N) C_t, so c_{t+1} = (1 - 1/N) c_t + r, c_1 = 1 - 1/N + r: at first
        r more per fit, in the limit N r, whatever the data is.

        Accumulate: let the t N rows so far have mean m and covariance S, and the model C = S + H. The N new rows have
        mean m + e, E|e|^2 = (s + r)/N, and covariance (1 - 1/N)(s + r). All (t+1) N rows together have

            s' = t s/(t+1) + (1 - 1/N)(s + r)/(t+1) + t/(t+1)^2 (s + r)/N
               = (1 - 1/(N (t+1)^2)) s + r/(t+1) (1 - 1/(N (t+1))),

        by the law of total variance. The loss of variance is bounded, as for a Gaussian (Kazdan et al. 2024), but the
        kernel adds r/(t+1) per fit: with a fixed bandwidth the variance grows like r log t under accumulate, and like
        r t under replace. It is bounded if h falls with the number of rows, as under the rules: then r_t is
        proportional to t^(-2/(d + 4)) and the sum of r_t/t converges.

        More than the variance is exact. Let q_t be the characteristic function at w of a row picked from the t N, in
        expectation, and f = exp(-h^2 w^2 / 2) the kernel's: then q_{t+1} = q_t (t + f)/(t + 1). So under accumulate the
        expected density loses the frequency w like t^-(1 - f), under replace like f^t.

        Under a rule H = g(n) S, so C = (1 + g(n)) S: under replace the variance then grows geometrically, by
        (1 - 1/N)(1 + g(N)) per fit.

        `moments.expected_variance` is the same derivation for any plan; it gives these curves and those of subsets
        and mixtures.
        """
        (d,) = info.shape("x")

        def widen(n: int, trace: float) -> tuple[float, float]:
            if isinstance(self.bandwidth, str):
                return 1.0 + self._share(n, d), 0.0
            return 1.0, self.bandwidth**2 * d / trace

        return variance_curve(metric, chain, data, widen)


def log_density(points: Tensor, kernel: Tensor, x: Tensor, shares: Tensor | None = None) -> Tensor:
    """Log density in nats of x (m, d) under points (n, d) with shares (n,), by default equal ones: (m,); -inf where the
    kernel (d, d) is singular.

    The number of rows at a time is limited so that there are never more than `PAIRS` distances.
    """
    (n, d), m = points.shape, len(x)
    factor, failed = torch.linalg.cholesky_ex(kernel)
    if int(failed):
        return x.new_full((m,), -torch.inf)
    log_volume = factor.diagonal().log().sum() + d / 2 * math.log(2 * math.pi)
    log_volume = log_volume + math.log(n) if shares is None else log_volume
    centres = torch.linalg.solve_triangular(factor, points.T, upper=False)
    white = torch.linalg.solve_triangular(factor, x.T, upper=False)
    pieces = []
    for piece in white.split(max(1, PAIRS // n), dim=1):
        squared = piece.new_zeros(piece.shape[1], n)
        for row, centre in zip(piece, centres, strict=True):
            squared += (row[:, None] - centre).square_()
        logs = squared.mul_(-0.5)
        pieces.append((logs if shares is None else logs.add_(shares.log())).logsumexp(1))
    total: Tensor = torch.cat(pieces) - log_volume
    return total
