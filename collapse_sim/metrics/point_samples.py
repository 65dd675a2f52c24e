"""Sampled points against real rows: what families without parameters to read are measured by.

Figures are comparable within one `against` and equal numbers of rows only. They are nan where a sample is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import Evaluation, Facts, FeatureSpace, Need, Which
from collapse_sim.metrics.closed_form import true
from collapse_sim.metrics.content_cache import remembered
from collapse_sim.metrics.notes import count_of, note

Count = Annotated[int, Field(gt=0)]
ITERATIONS = 10_000_000  # of the network simplex at most; 2,000 rows take some 100,000


class PointMetric(Component):
    """Who can be scored."""

    version: ClassVar[int] = 2
    kinds: ClassVar[tuple[str, ...] | None] = ("points",)
    least: ClassVar[int] = 1  # rows on either side

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("samples",)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        shape = info.shape("x")
        if len(shape) != 1:
            raise ValueError(f"{type(self).__name__} needs points with an x of shape (d,), and this data has {shape}")
        for which, rows in self._counts(info, samples).items():
            self._check_rows("samples" if which == "samples" else f"{which} rows", rows)

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> Facts:
        """Numbers of rows."""
        return Facts(note(self._counts(info, samples), None))

    def _counts(self, info: Info, samples: int) -> dict[Which, int]:
        sides: tuple[Which, ...] = ("samples", "real", "held_out")
        return {which: count_of(which, info, samples) for which in sides if which in self.needs}

    def _check_rows(self, what: str, rows: int) -> None:
        if rows < self.least:
            raise ValueError(f"too few {what}: {rows}, and {type(self).__name__} needs at least {self.least}")


class _Comparison(PointMetric):
    """Samples against real rows, at most `rows` of either side, the same ones for every arm.

    `against: held_out` (default): rows that no generation was fitted to. `real`: the rows generation 0 was fitted to.
    """

    against: Literal["held_out", "real"] = "held_out"  # rows that nothing is fitted to, or those of generation 0
    rows: Count = 1000  # drawn without replacement if there are more: time grows with the square or faster

    better: ClassVar[Literal["lower", "higher"] | None] = "lower"

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("samples", self.against)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        self._check_rows("rows to compare (`rows`)", self.rows)

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> Facts:
        """Numbers of rows, and how many of them are used."""
        return Facts(note(self._counts(info, samples), None, self.rows))

    def _picks(self, evaluation: Evaluation) -> tuple[Tensor, Tensor]:
        return self._pick(evaluation, "samples"), self._pick(evaluation, self.against)

    def _pick(self, evaluation: Evaluation, which: Which) -> Tensor:
        return some(evaluation, which, points(evaluation, which), self.rows)


class SampleW2(_Comparison):
    """Exact 2-Wasserstein distance between the samples and real rows as sets, in the data's unit, from 0.

    The square root of the least mean squared distance over all ways to move one set onto the other, by POT's network
    simplex (in one dimension by sorting). Biased upwards with few rows: two sets of 1,000 real rows are apart, too.
    """

    unit: ClassVar[str] = "the data's unit"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        return per_seed(evaluation, _w2, *self._picks(evaluation))


def _w2(samples: Tensor, real: Tensor) -> float:
    import ot

    if samples.shape[1] == 1:
        return math.sqrt(ot.wasserstein_1d(samples[:, 0].numpy(), real[:, 0].numpy(), p=2))
    costs = _distances(samples, real).square().numpy()
    return math.sqrt(ot.emd2([], [], costs, numItermax=ITERATIONS))


class SlicedW2(_Comparison):
    """Sliced 2-Wasserstein distance between the samples and real rows, in the data's unit, from 0.

    The root of the mean, over random directions, of the squared 1-D distance between the projections, each exact
    (Bonneel et al. 2015), by POT. Directions are the same for every arm and generation of a seed. For a shift by v it
    is about |v| / sqrt(d). Quick with many rows and dimensions, where `sample_w2` is slow and biased.
    """

    projections: Count = 100  # random directions
    rows: Count = 10_000  # drawn without replacement if there are more

    unit: ClassVar[str] = "the data's unit"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        samples, real = self._picks(evaluation)
        normal = evaluation.draws("sliced_w2/directions").normal(self.projections, samples.shape[-1]).cpu().double()
        directions = torch.nn.functional.normalize(normal, dim=-1).reshape(len(samples), *normal.shape[-2:])
        return per_seed(evaluation, _sliced_w2, samples, real, directions)


def _sliced_w2(samples: Tensor, real: Tensor, directions: Tensor) -> float:
    import ot

    return float(ot.sliced_wasserstein_distance(samples.numpy(), real.numpy(), projections=directions.T.numpy(), p=2))


class MMD(_Comparison):
    """Squared maximum mean discrepancy under the kernel exp(-|x - y|^2 / (2 bandwidth^2)) (Gretton et al. 2012).

    The unbiased estimate, over all pairs: about 0 for a perfect model, and it can be slightly negative. No unit.
    `bandwidth: median` is the median distance between the real rows; it is wide where there are many modes, and then
    sees little of what happens within one.
    """

    bandwidth: Literal["median"] | Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = "median"  # or a number

    least: ClassVar[int] = 2

    def score(self, evaluation: Evaluation) -> float | Tensor:
        return per_seed(evaluation, self._mmd, *self._picks(evaluation))

    def _mmd(self, samples: Tensor, real: Tensor) -> float:
        width = _median_distance(real) if self.bandwidth == "median" else self.bandwidth
        between = float(_kernel(_distances(samples, real), width).mean())
        return _mean_of_pairs(samples, width) + _mean_of_pairs(real, width) - 2 * between


@remembered
def _median_distance(rows: Tensor) -> float:
    return float(torch.pdist(rows).median())


@remembered
def _mean_of_pairs(rows: Tensor, width: float) -> float:
    return float(_kernel(torch.pdist(rows), width).mean())


def _kernel(distances: Tensor, width: float) -> Tensor:
    return distances.square_().div_(-2 * width * width).exp_()


class SampleVarianceRatio(PointMetric):
    """tr(covariance of the samples) / tr(true covariance). 1 is right, 0 is collapsed; no unit.

    The samples' covariance is the unbiased one, so the mean over seeds is that of `variance_ratio`, which reads it off
    the model; a single figure has the samples' noise. `against: held_out` or `real` takes those rows' covariance
    instead of the true one, for data that does not tell it.
    """

    against: Literal["truth", "held_out", "real"] = "truth"  # the true covariance, or that of real rows

    better: ClassVar[Literal["lower", "higher"] | None] = None  # above 1 is as wrong as below
    unit: ClassVar[str] = "ratio"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    least: ClassVar[int] = 2

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("samples",) if self.against == "truth" else ("samples", self.against)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        if self.against != "truth":
            self._check_rows(f"{self.against} rows", info.rows if self.against == "real" else info.held_out)
        elif "true_covariance" not in info.tells:
            raise ValueError("this data does not tell its true covariance: compare with rows (`against: held_out`)")

    def score(self, evaluation: Evaluation) -> float | Tensor:
        spread = per_seed(evaluation, _spread, points(evaluation, "samples"))
        if self.against == "truth":
            return spread / float(true(evaluation, "covariance").trace())
        return spread / per_seed(evaluation, _spread, points(evaluation, self.against))


def _spread(x: Tensor) -> float:
    return float(x.var(0).sum())


def points(evaluation: Evaluation, which: Which) -> Tensor:
    """Rows with their leading ensemble axis, (S, n, d) float64; S = 1 when the evaluation is not stacked."""
    x = evaluation.rows(which)["x"].double()
    return x if evaluation.stacked else x.unsqueeze(0)


def some(evaluation: Evaluation, which: Which, x: Tensor, most: int) -> Tensor:
    """At most so many of the rows (S, n, d), other ones for every seed, the same for every arm."""
    n = x.shape[1]
    if n <= most:
        return x
    order = evaluation.draws(f"metric_rows/{which}").permutation(n).cpu().reshape(-1, n)
    index = order[:, :most].sort(dim=1).values
    return x[torch.arange(len(x)).unsqueeze(1), index]


def per_seed(evaluation: Evaluation, value: Callable[..., float], samples: Tensor, *others: Tensor) -> float | Tensor:
    """`value(samples[s], ...)` for every seed s: nan where a sample is not finite, which solvers take for anything."""
    found = [
        value(rows, *rest) if bool(rows.isfinite().all()) else math.nan
        for rows, *rest in zip(samples, *others, strict=True)
    ]
    return torch.tensor(found, dtype=torch.float64) if evaluation.stacked else found[0]


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
