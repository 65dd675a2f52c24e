"""Metrics that compare samples with real rows in a feature space, where an image is a vector.

Figures are comparable only with the same feature map, the same `against` and equal numbers of rows.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.core.content_cache import content_cache
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.aspects import Aspect
from collapse_sim.metrics.base import (
    Evaluation,
    FeatureMap,
    FeatureSpace,
    MetricNote,
    Need,
    Which,
    biased,
    count_of,
    note,
)
from collapse_sim.metrics.feature_maps import FeatureChoice
from collapse_sim.metrics.neighbours import PIECE, covered, share_inside, squared_distances, squared_radii

Count = Annotated[int, Field(gt=0)]
STATISTICS_ROWS = 5_000  # rows of float64 at a time
SIDES: tuple[Which, ...] = ("samples", "real", "held_out")


class FeatureMetric(Component):
    """Base: the feature map, and the checks."""

    features: FeatureChoice = "classifier"
    """The map from images to vectors; pixels needs no labels, but does not see content."""

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...] | None] = ("images",)

    @property
    def feature_map(self) -> FeatureMap:
        """The map from rows to vectors."""
        feature_map: FeatureMap = self.features
        return feature_map

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("samples",)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        try:
            self.feature_map.check(info)
        except ValueError as error:
            raise ValueError(f"{error}; or compare in pixels (`features: pixels`)") from error
        for which, rows in self._counts(info, samples).items():
            self._check_rows("samples" if which == "samples" else f"{which} rows", rows)

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The numbers of rows, and the network."""
        return MetricNote(note(self._counts(info, samples), space))

    def _counts(self, info: Info, samples: int) -> dict[Which, int]:
        return {which: count_of(which, info, samples) for which in SIDES if which in self.needs}

    def _picked(self, evaluation: Evaluation, which: Which, most: int | None) -> Tensor:
        """Features of all rows, or of at most `most` rows, the same ones for every arm."""
        return evaluation.features(self.feature_map, which, most)

    def _check_rows(self, what: str, rows: int) -> None:
        if rows < self._min_rows():
            raise ValueError(f"too few {what}: {rows}, and {type(self).__name__} needs {self._requirement()}")

    def _min_rows(self) -> int:
        return 2

    def _requirement(self) -> str:
        return "at least 2"


class _FeatureComparison(FeatureMetric):
    """Samples against real rows.

    `against: held_out` (default): rows that no generation was fitted to, so that a model gains nothing by repeating its
    training rows. `real`: the rows that generation 0 was fitted to, as in much of the literature; there are more rows.
    """

    against: Literal["held_out", "real"] = "held_out"
    """Real rows to compare with: held_out (nothing is fitted to them), or real (generation 0 is)."""

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("samples", self.against)


class FID(_FeatureComparison):
    """Frechet distance between Gaussians fitted to the features of samples and of real rows (Heusel et al. 2017).

    ||m - m'||^2 + tr(C + C' - 2 (C C')^1/2), by torch-fidelity, in float64. In squared feature units, from 0. Biased
    upwards with few rows: below about 10,000 on either side, or with fewer rows than features, it ranks arms of equal
    size but should not be quoted. Papers use different numbers of samples: set `rows` to the same number.
    """

    rows: Count | None = None
    """Maximum number of rows of either side. null: all."""

    better: ClassVar[Literal["lower", "higher"] | None] = "lower"
    unit: ClassVar[str] = "squared feature units"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    measures: ClassVar[tuple[Aspect, ...]] = ("drift",)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        if self.rows is not None:
            self._check_rows("rows to compare (`rows`)", self.rows)

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """Also the bias from few rows, and whether they are too few for a covariance of full rank."""
        text = note(self._counts(info, samples), space, self.rows)
        counts: dict[Which, int] = {w: min(n, self.rows or n) for w, n in self._counts(info, samples).items()}
        if space and space.dimensions and min(counts.values()) <= space.dimensions:
            text += f"; too few rows for the covariance of its {space.dimensions:,} features"
        return MetricNote(text, biased(counts))

    @property
    def most_rows(self) -> int | None:
        """The number of samples that are used at most."""
        return self.rows

    def score(self, evaluation: Evaluation) -> float | Tensor:
        samples = _fid_statistics(self._picked(evaluation, "samples", self.rows))
        real = _fid_statistics(self._picked(evaluation, self.against, self.rows))
        return frechet_distance(samples, real)


def frechet_distance(samples: Any, real: Any) -> float:
    """The FID of two `feature_statistics`."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    return float(fid_statistics_to_metric(samples, real, verbose=False)[KEY_METRIC_FID])


def feature_statistics(features: Tensor) -> Any:
    """Mean and covariance in float64, in pieces: torch-fidelity's own take five times the memory of the features."""
    pieces = torch.split(features, STATISTICS_ROWS)
    mean = sum(piece.double().sum(0) for piece in pieces) / torch.tensor(float(len(features)), dtype=torch.float64)
    scatter = torch.zeros(2 * features.shape[1:], dtype=torch.float64)
    for piece in pieces:
        centred = piece.double() - mean
        scatter.addmm_(centred.T, centred)
    return {"mu": mean.numpy(), "sigma": (scatter / (len(features) - 1)).numpy()}


_fid_statistics = content_cache(feature_statistics)


def covariance(features: Tensor) -> Tensor:
    """Unbiased covariance (F, F) float64 of (n, F) features. Never modify it: it is cached."""
    matrix: Tensor = torch.from_numpy(_fid_statistics(features)["sigma"])
    return matrix


class _Capped(_FeatureComparison):
    """A comparison of all pairs of rows: at most `rows` of either side are used, the same ones for every arm."""

    rows: Count = 10_000
    """Maximum number of rows of either side, drawn without replacement; time grows with the square."""

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The numbers of rows, how many of them are used, and the network."""
        return MetricNote(note(self._counts(info, samples), space, self.rows))

    @property
    def most_rows(self) -> int:
        """The number of samples that are used at most."""
        return self.rows

    def _pick(self, evaluation: Evaluation, which: Which) -> Tensor:
        return self._picked(evaluation, which, self.rows)


class KID(_Capped):
    """Kernel distance: the squared maximum mean discrepancy under k(x, y) = (x.y / F + 1)^3 (Binkowski et al. 2018).

    The unbiased estimate over all pairs; with `subsets` the mean over random blocks of `subset_size` rows, as in
    published figures (100 of 1,000), drawn by torch-fidelity: the same mean with more noise. Unbiased also with few
    rows, so it can fall slightly below 0 for a perfect model. No unit.
    """

    subsets: Count | None = None
    """Number of blocks of random rows. null: all pairs of rows at once."""
    subset_size: Annotated[int, Field(ge=2)] | None = None
    """Rows of a block, from either side."""

    better: ClassVar[Literal["lower", "higher"] | None] = "lower"
    measures: ClassVar[tuple[Aspect, ...]] = ("drift",)

    @model_validator(mode="after")
    def _both_or_neither(self) -> KID:
        if (self.subsets is None) != (self.subset_size is None):
            raise ValueError("`subsets` and `subset_size` go together: 100 and 1000 are what published figures use")
        return self

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        self._check_rows("rows to compare (`rows`)", self.rows)

    def _min_rows(self) -> int:
        return self.subset_size or 2

    def _requirement(self) -> str:
        return f"at least its subset_size = {self.subset_size}" if self.subset_size else super()._requirement()

    def score(self, evaluation: Evaluation) -> float | Tensor:
        samples, real = self._pick(evaluation, "samples"), self._pick(evaluation, self.against)
        if self.subsets is None:
            between = _kernel_sum(samples, real) / (len(samples) * len(real))
            return _mean_of_pairs(samples) + _mean_of_pairs(real) - 2 * between
        from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

        blocks = kid_features_to_metric(
            samples.double(), real.double(), kid_subsets=self.subsets, kid_subset_size=self.subset_size, verbose=False
        )
        return float(blocks[KEY_METRIC_KID_MEAN])


@content_cache
def _mean_of_pairs(rows: Tensor) -> float:
    diagonal = float(_kernel(rows.double().square().sum(1), rows.shape[1]).sum())
    return (_kernel_sum(rows, rows) - diagonal) / (len(rows) * (len(rows) - 1))


def _kernel_sum(a: Tensor, b: Tensor) -> float:
    other = b.double().T
    pieces = torch.split(a.double(), max(1, PIECE // len(b)))
    return math.fsum(float(_kernel(piece @ other, a.shape[1]).sum()) for piece in pieces)


def _kernel(products: Tensor, dimensions: int) -> Tensor:
    base = products.div_(dimensions).add_(1)
    return base.square().mul_(base)


class _Neighbours(_Capped):
    """A comparison of manifolds: balls around rows that reach to their k-th nearest neighbour in the same set."""

    k: Count = 3
    """Balls reach to the k-th nearest neighbour."""

    def _min_rows(self) -> int:
        return self.k + 1

    def _requirement(self) -> str:
        return f"more than its k = {self.k} neighbours"

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        self._check_rows("rows to compare (`rows`)", self.rows)


class ShareInside(_Neighbours):
    """A share of one side's rows: of the samples, or of the rows that they are compared with."""

    of_samples: ClassVar[bool] = False

    def resolution(self, info: Info, samples: int) -> float:
        """One row's share of its side."""
        return 1 / min(self.rows, count_of("samples" if self.of_samples else self.against, info, samples))


class Precision(ShareInside):
    """Share of samples inside the real manifold, 0 to 1: fidelity (Kynkaanniemi et al. 2019).

    The real manifold is the union of closed balls around real rows, up to the k-th nearest other real row.
    """

    of_samples: ClassVar[bool] = True
    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "share of samples"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        return share_inside(self._pick(evaluation, "samples"), self._pick(evaluation, self.against), self.k)


class Recall(ShareInside):
    """Share of real rows inside the samples' manifold, 0 to 1: diversity (Kynkaanniemi et al. 2019).

    Precision with the sides exchanged. A few outliers among the samples can raise it, since their balls are large.
    """

    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "share of real rows"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    measures: ClassVar[tuple[Aspect, ...]] = ("tail",)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        return share_inside(self._pick(evaluation, self.against), self._pick(evaluation, "samples"), self.k)


class Density(_Neighbours):
    """How many real balls a sample lies in, on average, divided by k (Naeem et al. 2020): fidelity, robust to outliers.

    1 / (k M) sum_j sum_i 1[ d(sample_j, real_i) < radius_i ]. From 0; 1 is expected when both distributions are equal,
    and more when samples concentrate where real rows are dense.
    """

    k: Count = 5
    """Balls reach to the k-th nearest neighbour."""
    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "real balls per sample, divided by k"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        samples, real = self._pick(evaluation, "samples"), self._pick(evaluation, self.against)
        radii = squared_radii(real, self.k)
        inside = sum(int((squares < radii).sum()) for _, squares in squared_distances(samples, real))
        return inside / (self.k * len(samples))


class Coverage(ShareInside):
    """Share of real rows with a sample nearer than their k-th nearest other real row: diversity (Naeem et al. 2020).

    0 to 1. For equal distributions and equal numbers of samples and real rows 1 - 2^-k is expected, 0.97 for k = 5;
    with more samples than real rows it is higher, so compare equal numbers.
    """

    k: Count = 5
    """Balls reach to the k-th nearest neighbour."""
    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "share of real rows"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    measures: ClassVar[tuple[Aspect, ...]] = ("tail",)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        samples, real = self._pick(evaluation, "samples"), self._pick(evaluation, self.against)
        return int(covered(real, samples, self.k).sum()) / len(real)


class Vendi(FeatureMetric):
    """Vendi score: the effective number of different samples (Friedman & Dieng 2023). It does not use real rows.

    exp(entropy of the eigenvalues of K / n), K the cosine similarity of features. 1 if all samples are alike, at most
    the smaller of n and the number of features. It grows with n, and noise raises it: read it together with precision.
    """

    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "different samples"
    bounds: ClassVar[tuple[float | None, float | None]] = (1.0, None)
    measures: ClassVar[tuple[Aspect, ...]] = ("variance",)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        return vendi_score(evaluation.features(self.feature_map, "samples"))


def vendi_score(features: Tensor) -> float:
    """Vendi score of (n, F) features under cosine similarity. A zero vector is similar to other zero vectors only."""
    zeros = (features == 0).all(1, keepdim=True)
    x = F.normalize(torch.cat([features.double(), zeros.double()], 1), dim=1)
    # X X^T and X^T X have the same eigenvalues except zeros, which add no entropy.
    gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
    eigenvalues = torch.linalg.eigvalsh(gram / len(x)).clamp(min=0)
    return float(torch.special.entr(eigenvalues).sum().exp())
