"""Which classes samples show, in the eyes of a classifier: fitted to the real labels, or Inception with its own."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import ClassifyingMap, Evaluation, Facts, FeatureSpace, Need, Which
from collapse_sim.metrics.feature_choice import FeatureChoice
from collapse_sim.metrics.notes import biased, note

TINY = 1e-300  # in place of a probability of 0, whose logarithm is none
FAIR = 10  # a class counts as shown from a tenth of its real frequency on


class _ClassMetric(Component):
    """What both have in common: the feature map whose `probabilities` they read, and who can be scored."""

    features: FeatureChoice = "classifier"  # a map that classifies

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

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> Facts:
        """How many samples, and the classifier."""
        return Facts(note({"samples": samples}, space))


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

    features: FeatureChoice = "inception"  # a map that classifies
    splits: Annotated[int, Field(gt=0)] = 10  # parts

    needs: ClassVar[tuple[Need, ...]] = ("samples",)
    unit: ClassVar[str] = "classes"
    bounds: ClassVar[tuple[float | None, float | None]] = (1.0, None)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        if samples < 2 * self.splits:
            raise ValueError(f"too few samples: {samples}, and {self.splits} parts (`splits`) need two each")

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> Facts:
        """Also the bias of few samples."""
        return Facts(note({"samples": samples}, space), biased({"samples": samples}))

    def score(self, evaluation: Evaluation) -> float | Tensor:
        from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

        logits = evaluation.probabilities(self.feature_map, "samples").double().clamp(min=TINY).log()
        return float(isc_features_to_metric(logits, self.splits)[KEY_METRIC_ISC_MEAN])
