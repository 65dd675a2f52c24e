"""Metrics of closed-form models: their parameters against the true ones."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.core.registry import identity
from collapse_sim.data.base import Info
from collapse_sim.families.base import ClosedForm, ModelFamily
from collapse_sim.metrics.aspects import Aspect
from collapse_sim.metrics.base import Evaluation, Need


def needs_buffers(metric: str, info: Info, family: ModelFamily, *names: str) -> None:
    """Raise ValueError unless the family's models have these parameters and the data's true ones are known."""
    if info.fingerprint:
        raise ValueError(f"{metric} compares with the true parameters: it needs simulated data, not files")
    if isinstance(family, ClosedForm):
        model = family.build_ensemble(info, 1)
        missing = [name for name in names if not isinstance(getattr(model, name, None), Tensor)]
    else:
        missing = list(names)
    if missing:
        raise ValueError(
            f"{metric} reads a model's {' and '.join(missing)}, but {type(family).__name__} models have none"
        )


def buffers(evaluation: Evaluation, *names: str) -> list[Tensor]:
    """The model's parameters with their leading ensemble axis S, float64 on the CPU."""
    model = evaluation.model()
    return [getattr(model, name).detach().double().cpu() for name in names]


def true_value(evaluation: Evaluation, name: str) -> Tensor:
    """The data's `true_NAME()`, float64. Raises ValueError when the data does not have it."""
    method = getattr(evaluation.data, f"true_{name}", None)
    if method is None:
        raise ValueError(f"{type(evaluation.data).__name__} has no known true {name} (a method true_{name}())")
    return torch.as_tensor(method()).double().cpu()


class _ParameterMetric(Component):
    """Base: a model's parameters against the true ones."""

    version: ClassVar[int] = 1
    parameters: ClassVar[tuple[str, ...]]  # that it reads of a model
    kinds: ClassVar[tuple[str, ...] | None] = ("points",)
    needs: ClassVar[tuple[Need, ...]] = ("model",)
    better: ClassVar[Literal["lower", "higher"] | None] = "lower"
    unit: ClassVar[str] = "the data's unit"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        needs_buffers(identity(type(self)), info, family, *self.parameters)


class VarianceRatio(_ParameterMetric):
    """tr(covariance of the model) / tr(true covariance). 1 is right, 0 is collapsed; no unit.

    Shumailov et al. 2024; under replace its mean is (1 - 1/N)^t after t fits to N rows.
    """

    parameters: ClassVar[tuple[str, ...]] = ("covariance",)
    better: ClassVar[Literal["lower", "higher"] | None] = None  # above 1 is as wrong as below
    unit: ClassVar[str] = "ratio"
    measures: ClassVar[tuple[Aspect, ...]] = ("variance",)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        (covariance,) = buffers(evaluation, "covariance")
        return _trace(covariance) / _trace(true_value(evaluation, "covariance"))


class MeanError(_ParameterMetric):
    """Euclidean distance between the model's mean and the true mean, in the data's unit, from 0."""

    parameters: ClassVar[tuple[str, ...]] = ("mean",)
    measures: ClassVar[tuple[Aspect, ...]] = ("drift",)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        (mean,) = buffers(evaluation, "mean")
        distance: Tensor = torch.linalg.vector_norm(mean - true_value(evaluation, "mean"), dim=1)
        return distance


class W2(_ParameterMetric):
    """2-Wasserstein distance between Gaussians with the model's and the true mean and covariance, in the data's unit.

    The exact distance for `gaussian`; for a mixture or a kernel density only that of their first two moments, from 0.

    W2^2 = ||m - m*||^2 + tr(A + B - 2 (B^1/2 A B^1/2)^1/2)  (Dowson & Landau 1982; the Bures metric). The score is the
    distance, not its square. Values below about 1e-7 of the data's scale are rounding errors.
    """

    parameters: ClassVar[tuple[str, ...]] = ("mean", "covariance")
    measures: ClassVar[tuple[Aspect, ...]] = ("drift",)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        mean, covariance = buffers(evaluation, "mean", "covariance")
        return gaussian_w2(mean, covariance, true_value(evaluation, "mean"), true_value(evaluation, "covariance"))


def gaussian_w2(mean: Tensor, covariance: Tensor, true_mean: Tensor, true_covariance: Tensor) -> Tensor:
    """2-Wasserstein distance of each N(mean[s], covariance[s]) to one N(true_mean, true_covariance).

    (S, d), (S, d, d), (d,), (d, d), float64 -> (S,). Covariances may be singular.
    """
    # tr (B^1/2 A B^1/2)^1/2 is the sum of the singular values of A^1/2 B^1/2, which avoids roots of rounding errors.
    cross = torch.linalg.svdvals(_root(covariance).mT @ _root(true_covariance)).sum(-1)
    squared: Tensor = (mean - true_mean).square().sum(1) + _trace(covariance) + _trace(true_covariance) - 2 * cross
    return squared.clamp(min=0).sqrt()


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)


def _root(covariance: Tensor) -> Tensor:
    """R with R R^T = covariance."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp(min=0).sqrt().unsqueeze(-2)
    return root


class ExcessTestError(_ParameterMetric):
    """||w - w*||^2, which is E[(x w - x w*)^2] for x ~ N(0, I): the test error in excess of the true weights' w*.

    arXiv 2404.01413 has closed forms of its growth. In squared units of y, from 0.
    """

    parameters: ClassVar[tuple[str, ...]] = ("weights",)
    kinds: ClassVar[tuple[str, ...] | None] = ("regression",)
    unit: ClassVar[str] = "squared unit of y"
    measures: ClassVar[tuple[Aspect, ...]] = ("risk",)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        (weights,) = buffers(evaluation, "weights")
        return (weights - true_value(evaluation, "weights")).square().sum(1)
