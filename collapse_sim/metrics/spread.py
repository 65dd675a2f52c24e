"""How far samples spread: the spectrum of the features' covariance (number of directions, tail), and latent means.

Figures are comparable only with the same feature map and equal numbers of rows.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.hooks import Encodes
from collapse_sim.metrics.aspects import Aspect
from collapse_sim.metrics.base import Evaluation, FeatureSpace, MetricNote, Need, Which, note
from collapse_sim.metrics.features import Count, FeatureMetric, covariance

SPREAD: tuple[Which, ...] = ("samples", "held_out")
ROUNDING = 1e-12  # of the greatest variance: rounding errors of float32 features in directions without variance


class _Rank(FeatureMetric):
    """Base: an effective number of dimensions, from the eigenvalues of the covariance."""

    relative: bool = False
    """Whether to divide by the value of the same number of real rows: then 1 is right."""
    against: Literal["held_out", "real"] = "held_out"
    """With `relative`: real rows to compare with, held_out (nothing is fitted to them) or real (generation 0 is)."""
    rows: Count | None = None
    """Maximum number of rows of either side. null: all."""

    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    measures: ClassVar[tuple[Aspect, ...]] = ("variance",)

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("samples", self.against) if self.relative else ("samples",)

    @property
    def unit(self) -> str:
        """The unit, which depends on `relative`."""
        return "relative to real rows" if self.relative else "dimensions"

    def describe(self) -> dict[str, Any]:
        """Without `against` if nothing is compared."""
        settings = super().describe()
        return {name: value for name, value in settings.items() if self.relative or name != "against"}

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        if self.rows is not None:
            self._check_rows("rows to use (`rows`)", self.rows)

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """Also the bias from few rows."""
        counts = self._counts(info, samples)
        used = self._used(counts)
        text = note(counts, space, used)
        if space and space.dimensions and used < 10 * space.dimensions:
            what = "less so in the ratio" if self.relative else "compare equal numbers of rows"
            text += f"; few rows for {space.dimensions:,} dimensions make it smaller: {what}"
        return MetricNote(text)

    def _used(self, counts: dict[Which, int]) -> int:
        """The number of rows that are used, equal on either side."""
        smallest = min(counts.values())
        return min(smallest, self.rows or smallest)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        sides: tuple[Which, ...] = ("samples", self.against) if self.relative else ("samples",)
        used = self._used({which: len(evaluation.features(self.feature_map, which)) for which in sides})
        ranks = [self._rank(eigenvalues(self._picked(evaluation, which, used))) for which in sides]
        if not self.relative:
            return ranks[0]
        return ranks[0] / ranks[1] if ranks[1] else math.nan

    def _rank(self, values: Tensor) -> float:
        raise NotImplementedError


class EffectiveRank(_Rank):
    """Effective rank of the samples' covariance: exp(-sum p_i log p_i), p the eigenvalues over their sum.

    Roy & Vetterli 2007, of the covariance matrix, whose singular values are its eigenvalues. d for features that vary
    alike in d directions, 1 in one direction, 0 when all samples are equal. It also counts small variances, which
    collapse removes first; but noise raises it: read it together with `precision`.
    """

    def _rank(self, values: Tensor) -> float:
        total = values.sum()
        return float(torch.special.entr(values / total).sum().exp()) if total > 0 else 0.0


class ParticipationRatio(_Rank):
    """Participation ratio of the samples' covariance: (sum of eigenvalues)^2 / sum of their squares.

    d for features that vary alike in d directions, 1 in one direction, 0 when all samples are equal. It is the
    exponential of the Renyi entropy of order 2 (`effective_rank`: order 1), dominated by the largest variances.
    Gao et al. 2017 ("A theory of multineuronal dimensionality, dynamics and measurement").
    """

    def _rank(self, values: Tensor) -> float:
        squares = values.square().sum()
        return float(values.sum().square() / squares) if squares > 0 else 0.0


class TailVariance(FeatureMetric):
    """Variance of samples over that of held-out rows, in the directions in which real rows vary least. 1 is right.

    The directions are the last principal components of generation 0's real rows that hold at most `share` of the
    variance, at least one. Held-out rows are not used to choose them, so independent draws of the data have 1 in the
    mean, even with few rows. Below 1 the tail of the spectrum is lost, above 1 samples scatter away from the data. Own
    definition; a ratio of traces like `variance_ratio`.
    """

    share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Maximum share of the real rows' variance in the directions that are used."""

    better: ClassVar[Literal["lower", "higher"] | None] = None  # above 1 is as wrong as below
    unit: ClassVar[str] = "ratio"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    measures: ClassVar[tuple[Aspect, ...]] = ("tail",)

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("samples", "real", "held_out")

    def score(self, evaluation: Evaluation) -> float | Tensor:
        real = covariance(evaluation.features(self.feature_map, "real"))
        values, vectors = torch.linalg.eigh(real)
        values = values.clamp(min=0)
        # Directions without any variance, such as pixels that are always black, are not part of the tail.
        varies = values > ROUNDING * values[-1]
        in_tail = values.cumsum(0) <= self.share * values.sum()
        in_tail[int(varies.int().argmax())] = True
        tail = vectors[:, varies & in_tail]
        samples, held_out = (
            float((covariance(evaluation.features(self.feature_map, which)) @ tail * tail).sum()) for which in SPREAD
        )
        return samples / held_out if held_out > 0 else math.nan


def eigenvalues(features: Tensor) -> Tensor:
    """Eigenvalues of the covariance of (n, F) features, ascending; rounding errors are 0."""
    values = torch.linalg.eigvalsh(covariance(features))
    return torch.where(values > ROUNDING * values[-1].clamp(min=0), values, torch.zeros_like(values))


BATCH_ROWS = 1000


class LatentStd(Component):
    """Standard deviation of the samples' latent means under generation 0's encoder, averaged over dimensions.

    (1 / latent) sum_d std_i(mean_d(sample_i)), with n - 1. In Shumailov et al. 2024 ("The Curse of Recursion") it falls
    from .69 to .44 over five generations of VAEs on MNIST. In units of the prior's standard deviation, from 0; real
    rows have at most about 1, and generation 0's own samples are the reference. Dimensions that the encoder does not
    use contribute about 0.
    """

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...] | None] = None
    needs: ClassVar[tuple[Need, ...]] = ("samples", "origin")
    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "the prior's standard deviations"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    measures: ClassVar[tuple[Aspect, ...]] = ("variance",)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        if not isinstance(family, Encodes):
            raise ValueError(
                f"latent_std needs a model with an encoder, but {type(family).__name__} has none: remove it, or use vae"
            )
        if samples < 2:
            raise ValueError(f"latent_std needs at least 2 samples, found {samples}")

    @torch.no_grad()
    def score(self, evaluation: Evaluation) -> float | Tensor:
        family, origin, samples = evaluation.family, evaluation.origin(), evaluation.rows("samples")
        assert isinstance(family, Encodes)
        columns = {name: samples[name] for name in family.columns if name in samples}
        n = len(next(iter(columns.values())))
        means = []
        for first in range(0, n, BATCH_ROWS):
            batch = {
                name: rows[first : first + BATCH_ROWS].to(evaluation.machine.device) for name, rows in columns.items()
            }
            means.append(family.encode(origin, batch)[0].double().cpu())
        return float(torch.cat(means).std(0).mean())
