"""Metrics of sampled points against real rows, for families whose parameters cannot be read.

Figures are comparable only with the same `against` and equal numbers of rows. They are nan if a sample is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.core.content_cache import content_cache
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.aspects import Aspect
from collapse_sim.metrics.base import Evaluation, FeatureSpace, MetricNote, Need, Which, count_of, note
from collapse_sim.metrics.closed_form import true_value

Count = Annotated[int, Field(gt=0)]
MAX_ITERATIONS = 10_000_000  # of the network simplex; 2,000 rows take about 100,000
TENTH = 0.1  # of its true share, which a covered mode must hold


class PointMetric(Component):
    """Base: the checks."""

    version: ClassVar[int] = 2
    kinds: ClassVar[tuple[str, ...] | None] = ("points",)
    least: ClassVar[int] = 1  # rows on either side

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("samples",)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        shape = info.shape("x")
        if len(shape) != 1:
            raise ValueError(f"{type(self).__name__} needs points with an x of shape (d,), but this data has {shape}")
        for which, rows in self._counts(info, samples).items():
            self._check_rows("samples" if which == "samples" else f"{which} rows", rows)

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The numbers of rows."""
        return MetricNote(note(self._counts(info, samples), None))

    def _counts(self, info: Info, samples: int) -> dict[Which, int]:
        sides: tuple[Which, ...] = ("samples", "real", "held_out")
        return {which: count_of(which, info, samples) for which in sides if which in self.needs}

    def _check_rows(self, what: str, rows: int) -> None:
        if rows < self.least:
            raise ValueError(f"too few {what}: {rows}, and {type(self).__name__} needs at least {self.least}")


class _PointComparison(PointMetric):
    """Samples against real rows, at most `rows` of either side, the same ones for every arm.

    `against: held_out` (default): rows that no generation was fitted to. `real`: the rows generation 0 was fitted to.
    """

    against: Literal["held_out", "real"] = "held_out"
    """Real rows to compare with: held_out (nothing is fitted to them), or real (generation 0 is)."""
    rows: Count = 1000
    """Maximum number of rows of either side, drawn without replacement; time grows with the square or faster."""

    better: ClassVar[Literal["lower", "higher"] | None] = "lower"

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("samples", self.against)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        self._check_rows("rows to compare (`rows`)", self.rows)

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The numbers of rows, and how many of them are used."""
        return MetricNote(note(self._counts(info, samples), None, self.rows))

    def _picks(self, evaluation: Evaluation) -> tuple[Tensor, Tensor]:
        return self._pick(evaluation, "samples"), self._pick(evaluation, self.against)

    def _pick(self, evaluation: Evaluation, which: Which) -> Tensor:
        return subset(evaluation, which, points(evaluation, which), self.rows)


class SampleW2(_PointComparison):
    """Exact 2-Wasserstein distance between the samples and real rows as sets, in the data's unit, from 0.

    The square root of the minimal mean squared distance over all ways to move one set onto the other, by POT's network
    simplex (in one dimension by sorting). Biased upwards with few rows: two sets of 1,000 real rows also differ.
    """

    unit: ClassVar[str] = "the data's unit"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    measures: ClassVar[tuple[Aspect, ...]] = ("drift",)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        return per_seed(evaluation, _w2, *self._picks(evaluation))


def _w2(samples: Tensor, real: Tensor) -> float:
    import ot

    if samples.shape[1] == 1:
        return math.sqrt(ot.wasserstein_1d(samples[:, 0].numpy(), real[:, 0].numpy(), p=2))
    costs = _distances(samples, real).square().numpy()
    return math.sqrt(ot.emd2([], [], costs, numItermax=MAX_ITERATIONS))


class SlicedW2(_PointComparison):
    """Sliced 2-Wasserstein distance between the samples and real rows, in the data's unit, from 0.

    The root of the mean, over random directions, of the squared 1-D distance between the projections, each exact
    (Bonneel et al. 2015), by POT. Directions are the same for every arm and generation of a seed. For a shift by v it
    is about |v| / sqrt(d). Fast with many rows and dimensions, where `sample_w2` is slow and biased.
    """

    projections: Count = 100
    """Number of random directions."""
    rows: Count = 10_000
    """Maximum number of rows of either side, drawn without replacement."""

    unit: ClassVar[str] = "the data's unit"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    measures: ClassVar[tuple[Aspect, ...]] = ("drift",)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        samples, real = self._picks(evaluation)
        normal = evaluation.draws("sliced_w2/directions").normal(self.projections, samples.shape[-1]).cpu().double()
        directions = torch.nn.functional.normalize(normal, dim=-1).reshape(len(samples), *normal.shape[-2:])
        return per_seed(evaluation, _sliced_w2, samples, real, directions)


def _sliced_w2(samples: Tensor, real: Tensor, directions: Tensor) -> float:
    import ot

    return float(ot.sliced_wasserstein_distance(samples.numpy(), real.numpy(), projections=directions.T.numpy(), p=2))


class MMD(_PointComparison):
    """Squared maximum mean discrepancy under the kernel exp(-|x - y|^2 / (2 bandwidth^2)) (Gretton et al. 2012).

    The unbiased estimate over all pairs: about 0 for a perfect model, possibly slightly negative. No unit.
    `bandwidth: median` is the median distance between the real rows. With many modes it is wide and hardly sensitive to
    differences within a mode.
    """

    bandwidth: Literal["median"] | Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = "median"
    """Width of the kernel: the median distance between the real rows, or a number in the data's unit."""

    least: ClassVar[int] = 2
    measures: ClassVar[tuple[Aspect, ...]] = ("drift",)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        return per_seed(evaluation, self._mmd, *self._picks(evaluation))

    def _mmd(self, samples: Tensor, real: Tensor) -> float:
        width = _median_distance(real) if self.bandwidth == "median" else self.bandwidth
        between = float(_kernel(_distances(samples, real), width).mean())
        return _mean_of_pairs(samples, width) + _mean_of_pairs(real, width) - 2 * between


@content_cache
def _median_distance(rows: Tensor) -> float:
    return float(torch.pdist(rows).median())


@content_cache
def _mean_of_pairs(rows: Tensor, width: float) -> float:
    return float(_kernel(torch.pdist(rows), width).mean())


def _kernel(distances: Tensor, width: float) -> Tensor:
    return distances.square_().div_(-2 * width * width).exp_()


class SampleVarianceRatio(PointMetric):
    """tr(covariance of the samples) / tr(true covariance). 1 is right, 0 is collapsed; no unit.

    The samples' covariance is the unbiased one, so the mean over seeds is that of `variance_ratio`, which uses the
    model's covariance; a single figure has the samples' noise. `against: held_out` or `real` uses the covariance of
    these rows instead of the true one, for data whose truth is unknown.
    """

    against: Literal["truth", "held_out", "real"] = "truth"
    """What to compare with: the true covariance (truth), or that of held-out or real rows."""

    better: ClassVar[Literal["lower", "higher"] | None] = None  # above 1 is as wrong as below
    unit: ClassVar[str] = "ratio"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    least: ClassVar[int] = 2
    measures: ClassVar[tuple[Aspect, ...]] = ("variance",)

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("samples",) if self.against == "truth" else ("samples", self.against)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        if self.against != "truth":
            self._check_rows(f"{self.against} rows", info.rows if self.against == "real" else info.held_out)
        elif "true_covariance" not in info.known_truths:
            raise ValueError("the true covariance of this data is not known: compare with rows (`against: held_out`)")

    def score(self, evaluation: Evaluation) -> float | Tensor:
        variance = per_seed(evaluation, _total_variance, points(evaluation, "samples"))
        if self.against == "truth":
            return variance / float(true_value(evaluation, "covariance").trace())
        return variance / per_seed(evaluation, _total_variance, points(evaluation, self.against))


def _total_variance(x: Tensor) -> float:
    return float(x.var(0).sum())


def points(evaluation: Evaluation, which: Which) -> Tensor:
    """Rows with their leading ensemble axis, (S, n, d) float64; S = 1 when the evaluation is not stacked."""
    x = evaluation.rows(which)["x"].double()
    return x if evaluation.stacked else x.unsqueeze(0)


def subset(evaluation: Evaluation, which: Which, x: Tensor, most: int) -> Tensor:
    """At most `most` of the rows (S, n, d), different ones for every seed, the same for every arm."""
    n = x.shape[1]
    if n <= most:
        return x
    order = evaluation.draws(f"metric_rows/{which}").permutation(n).cpu().reshape(-1, n)
    index = order[:, :most].sort(dim=1).values
    return x[torch.arange(len(x)).unsqueeze(1), index]


def per_seed(evaluation: Evaluation, value: Callable[..., float], samples: Tensor, *others: Tensor) -> float | Tensor:
    """`value(samples[s], ...)` for every seed s; nan if a sample is not finite, which solvers do not detect."""
    values = [
        value(rows, *rest) if bool(rows.isfinite().all()) else math.nan
        for rows, *rest in zip(samples, *others, strict=True)
    ]
    return torch.tensor(values, dtype=torch.float64) if evaluation.stacked else values[0]


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


class SampleNLL(PointMetric):
    """Mean negative log density of the samples under the true density, in nats.

    A perfect model has the true entropy. Samples away from the data raise it; samples concentrated where the density is
    high, as after a loss of variance, lower it below the entropy. It does not detect lost modes.
    """

    better: ClassVar[Literal["lower", "higher"] | None] = None  # below the true entropy is as wrong as above
    unit: ClassVar[str] = "nats per sample"

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        if "log_density" not in info.known_truths:
            raise ValueError("sample_nll needs data with a known density: simulated points with a log_density(x)")

    def score(self, evaluation: Evaluation) -> float | Tensor:
        return per_seed(
            evaluation,
            lambda x: -float(evaluation.data.log_density(x).mean()),  # type: ignore[attr-defined]
            points(evaluation, "samples"),
        )


class _Modes(PointMetric):
    """Base: balls around the modes of a mixture."""

    within: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 3.0
    """Radius of the ball around a mode, in the mode's standard deviations."""

    better: ClassVar[Literal["lower", "higher"] | None] = "higher"

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        if "true_modes" not in info.known_truths:
            raise ValueError(
                f"{type(self).__name__} needs data with known modes, such as eight_gaussians or gaussian_mixture"
            )

    def _inside(self, evaluation: Evaluation, x: Tensor) -> Tensor:
        """Which of the samples (n, d) are in which ball: bool (n, K)."""
        modes, scales = evaluation.data.true_modes(), evaluation.data.mode_scales()  # type: ignore[attr-defined]
        inside: Tensor = torch.cdist(x, modes, compute_mode="donot_use_mm_for_euclid_dist") <= self.within * scales
        return inside


class ModeCoverage(_Modes):
    """Share of the true modes that hold at least a tenth of their expected samples, 0 to 1: diversity.

    A mode holds the samples within `within` standard deviations of its centre. Its expected share is its weight times
    the mass of this ball: .989 with 3 standard deviations in 2-D. Modes should not overlap. After Metz et al. (2017).
    """

    unit: ClassVar[str] = "share of modes"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    measures: ClassVar[tuple[Aspect, ...]] = ("modes",)

    def resolution(self, info: Info, samples: int) -> float:
        """One mode's share."""
        return 1 / max(round(info.constants.get("modes", 1)), 1)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        modes = round(info.constants.get("modes", 1))
        if samples < modes:
            raise ValueError(f"too few samples: {samples} cannot cover {modes} modes")

    def score(self, evaluation: Evaluation) -> float | Tensor:
        weights = evaluation.data.mode_weights()  # type: ignore[attr-defined]

        def covered(x: Tensor) -> float:
            expected = weights * _mass(self.within, x.shape[1])
            return float((self._inside(evaluation, x).double().mean(0) >= TENTH * expected).double().mean())

        return per_seed(evaluation, covered, points(evaluation, "samples"))


class HighQuality(_Modes):
    """Share of samples within `within` standard deviations of a true mode, 0 to 1: fidelity.

    .989 for a perfect model with 3 standard deviations in 2-D, .997 in 1-D; less in more dimensions, where `within`
    should be larger. After Srivastava et al. (2017), who count such samples on rings and grids of Gaussians.
    """

    unit: ClassVar[str] = "share of samples"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    def resolution(self, info: Info, samples: int) -> float:
        """One sample's share."""
        return 1 / samples

    def score(self, evaluation: Evaluation) -> float | Tensor:
        return per_seed(
            evaluation,
            lambda x: float(self._inside(evaluation, x).any(1).double().mean()),
            points(evaluation, "samples"),
        )


def _mass(radius: float, d: int) -> float:
    """Mass of a standard Gaussian in d dimensions within `radius` of its mean."""
    return float(torch.special.gammainc(torch.tensor(d / 2, dtype=torch.float64), torch.tensor(radius**2 / 2)))
