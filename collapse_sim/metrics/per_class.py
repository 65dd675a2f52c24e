"""What is left of every class of the real rows: a value a class, summed up by the class that is worst off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import Evaluation, Facts, FeatureSpace, Need, Which
from collapse_sim.metrics.classes import OwnClassMetric
from collapse_sim.metrics.features import Recall, rows_picked
from collapse_sim.metrics.neighbours import inside
from collapse_sim.metrics.notes import count_of, note


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

    alive_from: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1  # of its real share; what has less is dead

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

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> Facts:
        """How many rows, the classifier, and what the score is of."""
        counts: dict[Which, int] = {"samples": samples, "real": info.rows}
        return Facts(f"{note(counts, space)}; the least of {info.classes} classes")

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

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> Facts:
        """Also how few rows a class has on average."""
        rows = min(self.rows, count_of(self.against, info, samples))
        each = f"the least of {info.classes} classes of about {rows / info.classes:,.0f} rows"
        return Facts(f"{super().facts(info, samples, space).note}; {each}")

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
