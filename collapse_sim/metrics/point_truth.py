"""Sampled points against the true density of simulated data: its value at the samples, and its modes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import Evaluation
from collapse_sim.metrics.point_samples import PointMetric, per_seed, points

TENTH = 0.1  # of its true share, which a mode has to hold


class SampleNLL(PointMetric):
    """Mean negative log density of the samples under the true density, in nats: their implausibility.

    A perfect model has the true entropy. Samples away from the data raise it; samples that crowd where the density is
    high, as after a loss of variance, lower it below the entropy. It does not see lost modes.
    """

    better: ClassVar[Literal["lower", "higher"] | None] = None  # below the true entropy is as wrong as above
    unit: ClassVar[str] = "nats a sample"

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        if "log_density" not in info.tells:
            raise ValueError("sample_nll needs data that tells its density, simulated points with a log_density(x)")

    def score(self, evaluation: Evaluation) -> float | Tensor:
        return per_seed(
            evaluation,
            lambda x: -float(evaluation.data.log_density(x).mean()),  # type: ignore[attr-defined]
            points(evaluation, "samples"),
        )


class _Modes(PointMetric):
    """Balls around the modes of a mixture."""

    within: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 3.0  # a ball's radius, in the mode's std

    better: ClassVar[Literal["lower", "higher"] | None] = "higher"

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        if "true_modes" not in info.tells:
            raise ValueError(
                f"{type(self).__name__} needs data that tells its modes, such as eight_gaussians or gaussian_mixture"
            )

    def _inside(self, evaluation: Evaluation, x: Tensor) -> Tensor:
        """Which of the samples (n, d) lie in which ball: bool (n, K)."""
        modes, scales = evaluation.data.true_modes(), evaluation.data.mode_scales()  # type: ignore[attr-defined]
        inside: Tensor = torch.cdist(x, modes, compute_mode="donot_use_mm_for_euclid_dist") <= self.within * scales
        return inside


class ModeCoverage(_Modes):
    """Share of the true modes that hold at least a tenth of the samples they should, 0 to 1: diversity.

    A mode holds what lies within `within` standard deviations of its centre, and should hold its weight times the mass
    of that ball: .989 with 3 standard deviations in 2-D. Modes should not overlap. After Metz et al. (2017).
    """

    unit: ClassVar[str] = "share of modes"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    def resolution(self, info: Info, samples: int) -> float:
        """One mode's share."""
        return 1 / max(round(info.constants.get("modes", 1)), 1)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        modes = round(info.constants.get("modes", 1))
        if samples < modes:
            raise ValueError(f"too few samples: {samples} can't cover {modes} modes")

    def score(self, evaluation: Evaluation) -> float | Tensor:
        weights = evaluation.data.mode_weights()  # type: ignore[attr-defined]

        def covered(x: Tensor) -> float:
            expected = weights * _mass(self.within, x.shape[1])
            return float((self._inside(evaluation, x).double().mean(0) >= TENTH * expected).double().mean())

        return per_seed(evaluation, covered, points(evaluation, "samples"))


class HighQuality(_Modes):
    """Share of samples within `within` standard deviations of a true mode, 0 to 1: fidelity.

    .989 for a perfect model with 3 standard deviations in 2-D, .997 in 1-D; in more dimensions less, so take more.
    After Srivastava et al. (2017), who count such samples on rings and grids of Gaussians.
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
