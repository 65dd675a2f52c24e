"""Metrics of classes: which ones the samples cover, according to a classifier of labelled real rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.aspects import Aspect
from collapse_sim.metrics.base import (
    ClassifyingMap,
    Evaluation,
    FeatureSpace,
    MetricNote,
    Need,
    Which,
    biased,
    count_of,
    note,
    rows_drawn,
)
from collapse_sim.metrics.feature_maps import FeatureChoice
from collapse_sim.metrics.features import Recall, ShareInside
from collapse_sim.metrics.neighbours import inside

TINY = 1e-300  # replaces a probability of 0, so that the logarithm is finite
FAIR = 10  # a class counts as shown if its frequency is at least a tenth of the real one


class _ClassMetric(Component):
    """Base: the feature map whose `probabilities` are used, and the checks."""

    features: FeatureChoice = "classifier"
    """A feature map that classifies."""

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...] | None] = ("images",)
    better: ClassVar[Literal["lower", "higher"] | None] = "higher"

    @property
    def feature_map(self) -> ClassifyingMap:
        """The classifier."""
        feature_map: ClassifyingMap = self.features
        return feature_map

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        own = getattr(self.features, "own_classes", True)
        if own and info.classes < 1:
            raise ValueError("this metric counts classes, but this data has no labels")
        if not isinstance(self.features, ClassifyingMap):
            raise ValueError(
                f"`features` must classify, but {type(self.features).__name__} does not: use classifier, or inception"
            )
        self.feature_map.check(info)
        if own and samples < info.classes:
            raise ValueError(f"too few samples for {info.classes} classes: {samples}")

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The number of samples, and the classifier."""
        return MetricNote(note({"samples": samples}, space))


class OwnClassMetric(_ClassMetric):
    """Metrics whose classes are the data's labels."""

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        if not self.feature_map.own_classes:
            raise ValueError(
                f"{type(self.features).__name__} knows other classes than the data's labels: use classifier"
            )


class ClassCoverage(OwnClassMetric):
    """Share of the real classes that samples still show, from 0 to 1.

    A class is shown if the share of samples that the classifier assigns to it (its most probable class) is at least a
    tenth of the class's share of the real rows' labels. Own definition, after the mode counts of Metz et al. 2017
    ("Unrolled GANs"), with a threshold that misclassified samples do not reach.
    """

    needs: ClassVar[tuple[Need, ...]] = ("samples", "real")
    features_of: ClassVar[tuple[Which, ...]] = ("samples",)  # only labels of the real rows are used
    unit: ClassVar[str] = "share of classes"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    measures: ClassVar[tuple[Aspect, ...]] = ("modes",)

    def resolution(self, info: Info, samples: int) -> float:
        """One class's share."""
        return 1 / max(info.classes or 1, 1)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        classes = evaluation.info.classes
        labels = evaluation.rows("real")["label"].long()
        assigned = evaluation.probabilities(self.feature_map, "samples").argmax(1)
        real, sampled = torch.bincount(labels, minlength=classes), torch.bincount(assigned, minlength=classes)
        shown = FAIR * sampled * len(labels) >= real * len(assigned)  # integers, so exact at the threshold
        return float(shown[real > 0].double().mean())


class ClassEntropy(_ClassMetric):
    """Entropy of the mean predicted class distribution over samples, -sum p log p, in nats, from 0 to log(classes).

    The first term of the Inception score (Salimans et al. 2016). It is greatest when all classes are equally frequent:
    for data with uneven classes the target is the real rows' entropy. An uncertain classifier also raises it.
    """

    needs: ClassVar[tuple[Need, ...]] = ("samples",)
    unit: ClassVar[str] = "nats"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    measures: ClassVar[tuple[Aspect, ...]] = ("modes",)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        mean = evaluation.probabilities(self.feature_map, "samples").double().mean(0)
        return float(torch.special.entr(mean / mean.sum()).sum())


class InceptionScore(_ClassMetric):
    """Inception score (Salimans et al. 2016): exp of the mean KL(p(y|x) || p(y)), over `splits` parts of the samples.

    From 1 to the number of classes, reached when every image is classified with certainty and all classes are equally
    frequent. It does not use real rows: a perfect copy of the data has the data's own score (about 11 for CIFAR-10).
    The mean over the parts, by torch-fidelity with its order of rows; fewer samples make it smaller.
    """

    features: FeatureChoice = "inception"
    """A feature map that classifies."""
    splits: Annotated[int, Field(gt=0)] = 10
    """Parts that the samples are divided into."""

    needs: ClassVar[tuple[Need, ...]] = ("samples",)
    unit: ClassVar[str] = "classes"
    bounds: ClassVar[tuple[float | None, float | None]] = (1.0, None)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        if samples < 2 * self.splits:
            raise ValueError(f"too few samples: {samples}, but {self.splits} parts (`splits`) need two each")

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """Also the bias from few samples."""
        return MetricNote(note({"samples": samples}, space), biased({"samples": samples}))

    def score(self, evaluation: Evaluation) -> float | Tensor:
        from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

        logits = evaluation.probabilities(self.feature_map, "samples").double().clamp(min=TINY).log()
        return float(isc_features_to_metric(logits, self.splits)[KEY_METRIC_ISC_MEAN])


class ByClass:
    """Parts that are classes, named by their labels; the score is the smallest value."""

    def parts(self, info: Info) -> tuple[str, ...]:
        """The labels."""
        return tuple(map(str, range(info.classes)))

    def score(self, evaluation: Evaluation) -> float | Tensor:
        return self.sum_up(self.score_parts(evaluation))

    def score_parts(self, evaluation: Evaluation) -> dict[str, float]:
        """A value per label; nan where there is none."""
        raise NotImplementedError

    def sum_up(self, parts: Mapping[str, float]) -> float:
        """The smallest value; nan if there is none."""
        return min((value for value in parts.values() if not math.isnan(value)), default=math.nan)


class ClassShares(ByClass, OwnClassMetric):
    """Every class's share of samples over its share of the real rows: 1 is right, 0 is dead; the score is the smallest.

    A sample's class is the classifier's most probable one; real shares are those of the labels of generation 0's rows.
    The weighted mean over classes is 1, so the smallest is at most 1. A class is dead from the generation from which
    its value stays below `alive_from` to the end of the chain. The default is a tenth, as in `class_coverage` (and the
    mode counts of Metz et al. 2017): a classifier with errors on 2 % of the rows gives a lost class of ten about .02,
    and a tenth of 100 expected samples is nine standard deviations below 100.
    """

    alive_from: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """A class with a smaller value (share of samples over real share) is dead."""

    needs: ClassVar[tuple[Need, ...]] = ("samples", "real")
    features_of: ClassVar[tuple[Which, ...]] = ("samples",)  # only labels of the real rows are used
    better_of_parts: ClassVar[Literal["lower", "higher"] | None] = None  # above 1 is as wrong as below
    unit: ClassVar[str] = "of the real share"
    not_in_key: ClassVar[tuple[str, ...]] = ("alive_from",)
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    measures: ClassVar[tuple[Aspect, ...]] = ("modes",)

    @property
    def dead_below(self) -> float:
        """The value below which a class is dead."""
        return self.alive_from

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The numbers of rows, the classifier, and the number of classes."""
        counts: dict[Which, int] = {"samples": samples, "real": info.rows}
        return MetricNote(f"{note(counts, space)}; the least of {info.classes} classes")

    def resolution(self, info: Info, samples: int) -> float:
        """One sample in a class of mean size."""
        return info.classes / samples

    def score_parts(self, evaluation: Evaluation) -> dict[str, float]:
        """A value per label; nan for a class without real rows."""
        classes = evaluation.info.classes
        labels = evaluation.rows("real")["label"].long()
        assigned = evaluation.probabilities(self.feature_map, "samples").argmax(1)
        real, sampled = torch.bincount(labels, minlength=classes), torch.bincount(assigned, minlength=classes)
        shares = (sampled.double() * len(labels) / (real.double() * len(assigned))).where(real > 0, math.nan)
        return dict(zip(self.parts(evaluation.info), shares.tolist(), strict=True))


class RealRowsByClass(ByClass, ShareInside):
    """The share of every class's real rows that samples reach, 0 to 1; the score is the smallest."""

    of_all_classes: ClassVar[str]  # the metric of all rows together, for messages

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        if info.classes < 1:
            raise ValueError(f"this metric is per class, but this data has no labels: use {self.of_all_classes}")
        super().check(info, family, samples)

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """Also the mean number of rows per class."""
        rows = min(self.rows, count_of(self.against, info, samples))
        classes = f"the least of {info.classes} classes of about {rows / info.classes:,.0f} rows"
        return MetricNote(f"{super().metric_note(info, samples, space).note}; {classes}")

    def resolution(self, info: Info, samples: int) -> float:
        """One row of a class of mean size, as a share."""
        return info.classes / min(self.rows, count_of(self.against, info, samples))

    def score_parts(self, evaluation: Evaluation) -> dict[str, float]:
        """A value per label; nan for a class without rows."""
        labels, classes = evaluation.rows(self.against)["label"].long(), evaluation.info.classes
        drawn = rows_drawn(evaluation.draws, self.against, len(labels), self.rows)
        labels = labels if drawn is None else labels[drawn]
        hit = self._reached(self._pick(evaluation, self.against), self._pick(evaluation, "samples"))
        rows, hits = torch.bincount(labels, minlength=classes), torch.bincount(labels[hit], minlength=classes)
        return dict(zip(self.parts(evaluation.info), (hits.double() / rows).tolist(), strict=True))

    def _reached(self, real: Tensor, samples: Tensor) -> Tensor:
        """(n,) bool: which of the real rows, by their features (n, F), samples (m, F) reach."""
        raise NotImplementedError


class ClassRecall(RealRowsByClass, Recall):
    """Every class's recall: the share of its real rows inside the samples' manifold, 0 to 1; the score is the smallest.

    `recall` (Kynkaanniemi et al. 2019) of the real rows of one label, against the manifold of all samples: its mean
    over classes, weighted by their rows, is `recall`. No classifier of samples is needed. A class whose region of
    feature space no sample reaches has 0.
    """

    of_all_classes: ClassVar[str] = "recall"

    def _reached(self, real: Tensor, samples: Tensor) -> Tensor:
        return inside(real, samples, self.k)
