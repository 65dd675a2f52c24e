"""Which classes samples show, in the eyes of a classifier that was fitted to the real labels."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from collapse_sim.component import Component
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import ClassifyingMap, Evaluation, Need
from collapse_sim.metrics.feature_choice import FeatureChoice

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
        if info.classes < 1:
            raise ValueError("this metric counts classes, but this data has no labels")
        if not isinstance(self.features, ClassifyingMap):
            raise ValueError(f"`features` must classify, and {type(self.features).__name__} does not: use classifier")
        self.feature_map.check(info)
        if samples < info.classes:
            raise ValueError(f"too few samples for {info.classes} classes: {samples}")


class ClassCoverage(_ClassMetric):
    """Share of the real classes that samples still show, from 0 to 1.

    A class is shown if the share of samples that the classifier assigns to it (its most probable class) is at least a
    tenth of the class's share of the real rows' labels. Own definition, after the mode counts of Metz et al. 2017
    ("Unrolled GANs"), with a threshold that stray assignments do not reach.
    """

    needs: ClassVar[tuple[Need, ...]] = ("samples", "real")

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

    def score(self, evaluation: Evaluation) -> float | Tensor:
        mean = evaluation.probabilities(self.feature_map, "samples").double().mean(0)
        return float(torch.special.entr(mean / mean.sum()).sum())
