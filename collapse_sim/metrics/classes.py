"""Metrics by classes: which ones the samples cover, by a classifier of labelled real rows."""

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
from collapse_sim.metrics.base import ClassifyingMap, Evaluation, FeatureSpace, MetricNote, Need, Which
from collapse_sim.metrics.feature_maps import FeatureChoice
from collapse_sim.metrics.features import Recall, rows_picked
from collapse_sim.metrics.neighbours import inside
from collapse_sim.metrics.notes import biased, count_of, note

TINY = 1e-300  # in place of a probability of 0, whose logarithm is none
FAIR = 10  # a class counts as shown from a tenth of its real frequency on


class _ClassMetric(Component):
    """What both have in common: the feature map whose `probabilities` they read, and who can be scored."""

    features: FeatureChoice = "classifier"
    """A map that classifies."""

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...] | None] = ("images",)
    better: ClassVar[Literal["lower", "higher"] | None] = "higher"

    @property
    def feature_map(self) -> ClassifyingMap:
        """The classifier that is asked."""
        chosen: ClassifyingMap = self.features
        return chosen

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        own = getattr(self.features, "own_classes", True)
        if own and info.classes < 1:
            raise ValueError("this metric counts classes, but this data has no labels")
        if not isinstance(self.features, ClassifyingMap):
            raise ValueError(
                f"`features` must classify, and {type(self.features).__name__} does not: use classifier, or inception"
            )
        self.feature_map.check(info)
        if own and samples < info.classes:
            raise ValueError(f"too few samples for {info.classes} classes: {samples}")

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """How many samples, and the classifier."""
        return MetricNote(note({"samples": samples}, space))


class OwnClassMetric(_ClassMetric):
    """Classes that are the data's labels."""

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
    ("Unrolled GANs"), with a threshold that stray assignments do not reach.
    """

    needs: ClassVar[tuple[Need, ...]] = ("samples", "real")
    features_of: ClassVar[tuple[Which, ...]] = ("samples",)  # of the real rows it reads labels only
    unit: ClassVar[str] = "share of classes"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    def resolution(self, info: Info, samples: int) -> float:
        """One class's share."""
        return 1 / max(info.classes or 1, 1)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        classes = evaluation.info.classes
        labels = evaluation.rows("real")["label"].long()
        assigned = evaluation.probabilities(self.feature_map, "samples").argmax(1)
        real, found = torch.bincount(labels, minlength=classes), torch.bincount(assigned, minlength=classes)
        shown = FAIR * found * len(labels) >= real * len(assigned)  # in whole numbers: exact on the threshold
        return float(shown[real > 0].double().mean())


class ClassEntropy(_ClassMetric):
    """Entropy of the mean predicted class distribution over samples, -sum p log p, in nats, from 0 to log(classes).

    The first term of the Inception score (Salimans et al. 2016). At its greatest when all classes are equally frequent:
    for data with uneven classes the real rows' own entropy is the goal. An unsure classifier raises it, too.
    """

    needs: ClassVar[tuple[Need, ...]] = ("samples",)
    unit: ClassVar[str] = "nats"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        mean = evaluation.probabilities(self.feature_map, "samples").double().mean(0)
        return float(torch.special.entr(mean / mean.sum()).sum())


class InceptionScore(_ClassMetric):
    """Inception score (Salimans et al. 2016): exp of the mean KL(p(y|x) || p(y)), over `splits` parts of the samples.

    From 1 to the number of classes: sure of every image, and all classes equally frequent. It looks at no real rows: a
    perfect copy of the data has the data's own score (about 11 for CIFAR-10). The mean over the parts, by
    torch-fidelity with its order of rows; fewer samples make it smaller.
    """

    features: FeatureChoice = "inception"
    """A map that classifies."""
    splits: Annotated[int, Field(gt=0)] = 10
    """Parts."""

    needs: ClassVar[tuple[Need, ...]] = ("samples",)
    unit: ClassVar[str] = "classes"
    bounds: ClassVar[tuple[float | None, float | None]] = (1.0, None)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        if samples < 2 * self.splits:
            raise ValueError(f"too few samples: {samples}, and {self.splits} parts (`splits`) need two each")

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """Also the bias of few samples."""
        return MetricNote(note({"samples": samples}, space), biased({"samples": samples}))

    def score(self, evaluation: Evaluation) -> float | Tensor:
        from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

        logits = evaluation.probabilities(self.feature_map, "samples").double().clamp(min=TINY).log()
        return float(isc_features_to_metric(logits, self.splits)[KEY_METRIC_ISC_MEAN])


class _ByClass:
    """Parts that are classes, called by their labels; the score is the least of those that can be told."""

    def parts(self, info: Info) -> tuple[str, ...]:
        """The labels."""
        return tuple(map(str, range(info.classes)))

    def score(self, evaluation: Evaluation) -> float | Tensor:
        return self.sum_up(self.score_parts(evaluation))

    def score_parts(self, evaluation: Evaluation) -> dict[str, float]:
        """A value a label; nan where there is none."""
        raise NotImplementedError

    def sum_up(self, parts: Mapping[str, float]) -> float:
        """The least; nan if none can be told."""
        return min((value for value in parts.values() if not math.isnan(value)), default=math.nan)


class ClassShares(_ByClass, OwnClassMetric):
    """Every class's share of samples over its share of the real rows: 1 is right, 0 is dead; the score is the least.

    A sample's class is the classifier's most probable one; real shares are of the labels of the rows generation 0 is
    fitted to. The weighted mean over classes is 1, so the least is at most 1. A class is dead from the generation on
    from which its value stays below `alive_from` to the end of the chain. A tenth, as in `class_coverage` (and the mode
    counts of Metz et al. 2017): a classifier that errs on 2 % of the rows spreads about .02 over a lost class of ten,
    and a tenth of 100 expected samples is nine standard deviations below them.
    """

    alive_from: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Of its real share; what has less is dead."""

    needs: ClassVar[tuple[Need, ...]] = ("samples", "real")
    features_of: ClassVar[tuple[Which, ...]] = ("samples",)  # of the real rows it reads labels only
    better_of_parts: ClassVar[Literal["lower", "higher"] | None] = None  # above 1 is as wrong as below
    unit: ClassVar[str] = "of the real share"
    not_in_key: ClassVar[tuple[str, ...]] = ("alive_from",)
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)

    @property
    def dead_below(self) -> float:
        """Where a class dies."""
        return self.alive_from

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """How many rows, the classifier, and what the score is of."""
        counts: dict[Which, int] = {"samples": samples, "real": info.rows}
        return MetricNote(f"{note(counts, space)}; the least of {info.classes} classes")

    def resolution(self, info: Info, samples: int) -> float:
        """One sample more or less in a class of mean size."""
        return info.classes / samples

    def score_parts(self, evaluation: Evaluation) -> dict[str, float]:
        """A value a label; nan for a class that no real row shows."""
        classes = evaluation.info.classes
        labels = evaluation.rows("real")["label"].long()
        assigned = evaluation.probabilities(self.feature_map, "samples").argmax(1)
        real, found = torch.bincount(labels, minlength=classes), torch.bincount(assigned, minlength=classes)
        shares = (found.double() * len(labels) / (real.double() * len(assigned))).where(real > 0, math.nan)
        return dict(zip(self.parts(evaluation.info), shares.tolist(), strict=True))


class ClassRecall(_ByClass, Recall):
    """Every class's recall: the share of its real rows inside the samples' manifold, 0 to 1; the score is the least.

    `recall` (Kynkaanniemi et al. 2019) of the real rows of one label, against the manifold of all samples: its mean
    over classes, weighted by their rows, is `recall`. No classifier says what a sample shows. A class whose place in
    feature space no sample reaches has 0.
    """

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        if info.classes < 1:
            raise ValueError("this metric is of classes, but this data has no labels: use recall")
        super().check(info, family, samples)

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """Also how few rows a class has on average."""
        rows = min(self.rows, count_of(self.against, info, samples))
        each = f"the least of {info.classes} classes of about {rows / info.classes:,.0f} rows"
        return MetricNote(f"{super().facts(info, samples, space).note}; {each}")

    def resolution(self, info: Info, samples: int) -> float:
        """One row's share of a class of mean size."""
        return info.classes / min(self.rows, count_of(self.against, info, samples))

    def score_parts(self, evaluation: Evaluation) -> dict[str, float]:
        """A value a label; nan for a class that none of the rows shows."""
        labels = evaluation.rows(self.against)["label"].long()
        picked = rows_picked(evaluation, self.against, len(labels), self.rows)
        labels = labels if picked is None else labels[picked]
        found = inside(self._pick(evaluation, self.against), self._pick(evaluation, "samples"), self.k)
        classes = evaluation.info.classes
        rows, there = torch.bincount(labels, minlength=classes), torch.bincount(labels[found], minlength=classes)
        return dict(zip(self.parts(evaluation.info), (there.double() / rows).tolist(), strict=True))
