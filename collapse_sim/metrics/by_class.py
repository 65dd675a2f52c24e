"""Metrics of every class: of samples that were generated for a label, and of real rows by theirs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import Evaluation, FeatureSpace, MetricNote, Need, Which, biased, note, rows_drawn
from collapse_sim.metrics.classes import ByClass, OwnClassMetric, RealRowsByClass
from collapse_sim.metrics.features import FID, Count, Coverage, feature_statistics, frechet_distance
from collapse_sim.metrics.neighbours import covered


def check_labels_of_samples(family: ModelFamily) -> None:
    """Raise ValueError unless samples of this family are generated for labels."""
    if "label" not in family.columns:
        raise ValueError(
            "it needs samples that were generated for a label, and this model generates images alone: set the model's "
            "`conditional: true`, or use class_shares or class_recall, which need no labels of samples"
        )


class ConditionalAccuracy(ByClass, OwnClassMetric):
    """Share of the samples generated for a class that the classifier assigns to it, by class; the score is their mean.

    Of conditional models, 0 to 1: the classifier is fitted to real rows (Shmelkov et al. 2018, GAN-test). Every class
    counts equally in the score, whatever its share. 1 over the number of classes is chance; samples like real rows have
    the classifier's accuracy on new real rows. A class is dead from the generation from which its value stays below
    `alive_from` to the end of the chain.
    """

    alive_from: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """A class with a smaller value (share of its samples that are recognised) is dead."""

    needs: ClassVar[tuple[Need, ...]] = ("samples",)
    features_of: ClassVar[tuple[Which, ...]] = ("samples",)
    unit: ClassVar[str] = "share of samples"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    not_in_key: ClassVar[tuple[str, ...]] = ("alive_from",)

    @property
    def dead_below(self) -> float:
        """The value below which a class is dead."""
        return self.alive_from

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        check_labels_of_samples(family)

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The number of samples, the classifier, and the number of classes."""
        return MetricNote(f"{note({'samples': samples}, space)}; the mean of {info.classes} classes")

    def resolution(self, info: Info, samples: int) -> float:
        """One sample of a class of mean size, in the mean over classes."""
        return 1 / samples

    def score_parts(self, evaluation: Evaluation) -> dict[str, float]:
        """A value per label; nan for a class without samples."""
        classes = evaluation.info.classes
        labels = evaluation.rows("samples")["label"].long()
        assigned = evaluation.probabilities(self.feature_map, "samples").argmax(1)
        right = torch.bincount(labels[assigned == labels], minlength=classes)
        shares = right.double() / torch.bincount(labels, minlength=classes)
        return dict(zip(self.parts(evaluation.info), shares.tolist(), strict=True))

    def sum_up(self, parts: Mapping[str, float]) -> float:
        """The mean over classes."""
        return _mean(parts)


class FIDByClass(ByClass, FID):
    """FID of every class, of its samples against its real rows; the score is the mean over classes.

    The intra FID of Miyato & Koyama 2018. Of conditional models: a sample's class is the label it was generated for.
    Classes have few rows, so that the bias of FID is larger than over all rows: compare arms and generations with equal
    numbers of rows.
    """

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        if info.classes < 1:
            raise ValueError("this metric is per class, but this data has no labels: use fid")
        super().check(info, family, samples)
        check_labels_of_samples(family)

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The numbers of rows, and their mean numbers per class with what follows from these."""
        counts = self._counts(info, samples)
        of_class: dict[Which, int] = {w: min(n, self.rows or n) // max(1, info.classes) for w, n in counts.items()}
        text = f"{note(counts, space, self.rows)}; the mean of {info.classes} classes"
        if space and space.dimensions and min(of_class.values()) <= space.dimensions:
            text += f"; too few rows of a class for the covariance of its {space.dimensions:,} features"
        return MetricNote(text, biased(of_class))

    def score_parts(self, evaluation: Evaluation) -> dict[str, float]:
        """A value per label; nan for a class with fewer than two rows on either side."""
        sides = zip(self._split(evaluation, "samples"), self._split(evaluation, self.against), strict=True)
        distances = (
            frechet_distance(feature_statistics(samples), feature_statistics(real))
            if min(len(samples), len(real)) > 1
            else math.nan
            for samples, real in sides
        )
        return dict(zip(self.parts(evaluation.info), distances, strict=True))

    def sum_up(self, parts: Mapping[str, float]) -> float:
        """The mean over classes."""
        return _mean(parts)

    def _split(self, evaluation: Evaluation, which: Which) -> list[Tensor]:
        """The features of each class, of the rows that are used."""
        features, labels = self._picked(evaluation, which, self.rows), evaluation.rows(which)["label"].long()
        drawn = rows_drawn(evaluation.draws, which, len(labels), self.rows)
        labels = labels if drawn is None else labels[drawn]
        return [features[labels == c] for c in range(evaluation.info.classes)]


class CoverageByClass(RealRowsByClass, Coverage):
    """Every class's coverage, the share of its real rows with a sample in their ball, 0 to 1; the score is the least.

    `coverage` (Naeem et al. 2020) of the real rows of one label: balls reach to the k-th nearest other real row of any
    class, and samples of any label count, so its mean over classes, weighted by their rows, is `coverage`. It needs no
    labels of samples. A class is dead from the generation from which its value stays below `alive_from` to the end of
    the chain.
    """

    k: Count = 5
    """Balls reach to the k-th nearest neighbour, as in `coverage`."""
    alive_from: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """A class with a smaller value (share of its real rows that are covered) is dead."""

    not_in_key: ClassVar[tuple[str, ...]] = ("alive_from",)
    of_all_classes: ClassVar[str] = "coverage"

    @property
    def dead_below(self) -> float:
        """The value below which a class is dead."""
        return self.alive_from

    def _reached(self, real: Tensor, samples: Tensor) -> Tensor:
        return covered(real, samples, self.k)


def _mean(parts: Mapping[str, float]) -> float:
    """The mean of those that have a value; nan if none has."""
    values = [value for value in parts.values() if not math.isnan(value)]
    return math.fsum(values) / len(values) if values else math.nan
