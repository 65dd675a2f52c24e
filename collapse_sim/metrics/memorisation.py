"""Distances of samples to the rows that generation 0 was fitted to, compared with rows that it never saw.

Later generations see these rows only if their strategy keeps them, otherwise only through earlier generations.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from torch import Tensor

from collapse_sim.core.content_cache import content_cache
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import Evaluation, FeatureSpace, MetricNote, Need, Which, note
from collapse_sim.metrics.feature_maps import FeatureChoice
from collapse_sim.metrics.features import Count, FeatureMetric
from collapse_sim.metrics.neighbours import squared_nearest, squared_radii
from collapse_sim.metrics.point_samples import PointMetric, per_seed, points, subset


class _Nearest(FeatureMetric):
    """Base: nearest neighbours among real rows, at most `rows` of each kind, the same ones for every arm."""

    # Not a network fitted to the same rows: they are closer together in its features than new rows are.
    features: FeatureChoice = "pixels"
    """The map from images to vectors."""
    rows: Count = 10_000
    """Maximum number of rows of each kind, drawn without replacement; time grows with the square."""

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("samples", "real", "held_out")

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        self._check_rows("rows to compare (`rows`)", self.rows)

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The numbers of rows, how many are used, the network, and a warning if it was fitted to the real rows."""
        return MetricNote(note(self._counts(info, samples), space, self.rows), self._warning())

    def _warning(self) -> str:
        fitted = self.feature_map.network() is not None
        return "the network was also fitted to the real rows, so new rows are farther from them" if fitted else ""

    @property
    def most_rows(self) -> int:
        """The number of samples that are used at most."""
        return self.rows

    def _pick(self, evaluation: Evaluation, which: Which) -> Tensor:
        return self._picked(evaluation, which, self.rows)


class Memorisation(_Nearest):
    """Share of samples nearer to a row of generation 0 than to any of equally many held-out rows. .5 is right.

    If a model depends on no particular rows, both kinds are equally likely to be nearest, whatever the samples are
    like, so a bad or collapsed model also has .5 in the mean; 1 if all samples are copies. Ties count half. The larger
    kind is thinned to equal numbers. In the literature on synthetic data this is the share of records nearer to
    training than to held-out data (Platzer & Reutterer 2021).
    """

    better: ClassVar[Literal["lower", "higher"] | None] = None  # .5 is right
    unit: ClassVar[str] = "share of samples"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """Equal numbers of real and held-out rows are used."""
        counts = self._counts(info, samples)
        sides = note({"samples": samples}, None, self.rows)
        equal = self._equal(counts["real"], counts["held_out"])
        text = f"{sides}; nearest of {note({w: counts[w] for w in ('real', 'held_out')}, space, equal)}"
        return MetricNote(text, self._warning())

    def resolution(self, info: Info, samples: int) -> float:
        """Half a sample's share, since a tie counts half."""
        return 0.5 / min(samples, self.rows)

    def _equal(self, real: int, held_out: int) -> int:
        return min(real, held_out, self.rows)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        sides: tuple[Which, ...] = ("real", "held_out")
        equal = self._equal(*(len(evaluation.features(self.feature_map, which)) for which in sides))
        real, held_out = (self._picked(evaluation, which, equal) for which in sides)
        return share_nearer(self._pick(evaluation, "samples"), real, held_out)


def share_nearer(samples: Tensor, rows: Tensor, others: Tensor) -> float:
    """Share of samples that are nearer to a row than to any of the others; ties count half."""
    own, other = squared_nearest(samples, rows)[0], squared_nearest(samples, others)[0]
    return float((own < other).double().mean() + (own == other).double().mean() / 2)


class Authenticity(_Nearest):
    """Share of samples farther from their nearest training row than it is from its own nearest; 0 if all are copies.

    Alaa et al. 2022. Training rows are those that generation 0 was fitted to. Independent draws of the data have 1
    minus the probability that nearest neighbours are mutual: .33 in one dimension, .38 in two, towards .5 in many.
    Scattered samples have more, concentrated samples have less without a single copy: read it together with
    `memorisation`.
    """

    better: ClassVar[Literal["lower", "higher"] | None] = None  # the value of new rows is right
    unit: ClassVar[str] = "share of samples"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("samples", "real")

    def resolution(self, info: Info, samples: int) -> float:
        """One sample's share."""
        return 1 / min(samples, self.rows)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        samples, real = self._pick(evaluation, "samples"), self._pick(evaluation, "real")
        distances, nearest = squared_nearest(samples, real)
        return float((distances > squared_radii(real, 1)[nearest]).double().mean())


class NearestDistance(_Nearest):
    """Median distance of samples to their nearest training row, over that of held-out rows to theirs. 1 is right.

    Training rows are those that generation 0 was fitted to. 0 if most samples are copies, 1 for new rows of the data,
    which cannot be copies. It mixes copying with quality: samples away from the data have more, samples concentrated
    where rows are dense have less. The data-copying test of Meehan et al. 2020 ranks the same distances.
    """

    better: ClassVar[Literal["lower", "higher"] | None] = None  # above 1 is as wrong as below
    unit: ClassVar[str] = "ratio"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        real = self._pick(evaluation, "real")
        sampled = float(squared_nearest(self._pick(evaluation, "samples"), real)[0].sqrt().quantile(0.5))
        held_out = _median_nearest(self._pick(evaluation, "held_out"), real)
        return sampled / held_out if held_out else math.nan


@content_cache
def _median_nearest(rows: Tensor, others: Tensor) -> float:
    return float(squared_nearest(rows, others)[0].sqrt().quantile(0.5))


class SampleMemorisation(PointMetric):
    """Share of samples nearer to a row of generation 0 than to any of equally many held-out rows. .5 is right.

    `memorisation` of points, without features: near 1 for a kernel density with a narrow kernel, and .5 in the mean for
    any model that depends on the distribution only, however bad it is. The larger kind is thinned to equal numbers, the
    same rows for every arm.
    """

    rows: Count = 1000
    """Maximum number of rows of each kind; time grows with the square."""

    better: ClassVar[Literal["lower", "higher"] | None] = None  # .5 is right
    unit: ClassVar[str] = "share of samples"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("samples", "real", "held_out")

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """Equal numbers of real and held-out rows are used."""
        counts = self._counts(info, samples)
        equal = self._equal(counts["real"], counts["held_out"])
        real: dict[Which, int] = {which: counts[which] for which in ("real", "held_out")}
        return MetricNote(f"{note({'samples': samples}, None, self.rows)}; nearest of {note(real, None, equal)}")

    def resolution(self, info: Info, samples: int) -> float:
        """Half a sample's share, since a tie counts half."""
        return 0.5 / min(samples, self.rows)

    def _equal(self, real: int, held_out: int) -> int:
        return min(real, held_out, self.rows)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        samples, real, held_out = (points(evaluation, which) for which in ("samples", "real", "held_out"))
        equal = self._equal(real.shape[1], held_out.shape[1])
        return per_seed(
            evaluation,
            share_nearer,
            subset(evaluation, "samples", samples, self.rows),
            subset(evaluation, "real", real, equal),
            subset(evaluation, "held_out", held_out, equal),
        )
