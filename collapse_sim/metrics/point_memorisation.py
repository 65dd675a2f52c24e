"""How near sampled points are to the rows that generation 0 was fitted to."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from collapse_sim.data.base import Info
from collapse_sim.metrics.base import Evaluation, Facts, FeatureSpace, Need, Which
from collapse_sim.metrics.memorisation import share_nearer
from collapse_sim.metrics.notes import note
from collapse_sim.metrics.point_samples import Count, PointMetric, per_seed, points, some


class SampleMemorisation(PointMetric):
    """Share of samples whose nearest real row is one of generation 0's, among as many held-out rows. .5 is right.

    `memorisation`, of points as they are: a kernel density with a narrow kernel nears 1, and .5 is what any model has
    in the mean that knows the distribution only, however bad it is. The kind of which there are more rows is thinned to
    equal numbers, the same for every arm.
    """

    rows: Count = 1000  # at most so many of each kind: time grows with the square

    better: ClassVar[Literal["lower", "higher"] | None] = None  # .5 is right
    unit: ClassVar[str] = "share of samples"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("samples", "real", "held_out")

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> Facts:
        """Of real rows as many are used as of held-out ones."""
        counts = self._counts(info, samples)
        equal = self._equal(counts["real"], counts["held_out"])
        real: dict[Which, int] = {which: counts[which] for which in ("real", "held_out")}
        return Facts(f"{note({'samples': samples}, None, self.rows)}; nearest of {note(real, None, equal)}")

    def resolution(self, info: Info, samples: int) -> float:
        """Half a sample's share: a tie counts half."""
        return 0.5 / min(samples, self.rows)

    def _equal(self, real: int, held_out: int) -> int:
        return min(real, held_out, self.rows)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        samples, real, held_out = (points(evaluation, which) for which in ("samples", "real", "held_out"))
        equal = self._equal(real.shape[1], held_out.shape[1])
        return per_seed(
            evaluation,
            share_nearer,
            some(evaluation, "samples", samples, self.rows),
            some(evaluation, "real", real, equal),
            some(evaluation, "held_out", held_out, equal),
        )
