"""ROUGE of the model's outputs for held-out sources against the held-out targets, by rouge-score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import Evaluation, FeatureSpace, MetricNote, Need, ScoredByRows, note, ratio_influences
from collapse_sim.metrics.text_base import texts, tokens_of


class _Rouge(ScoredByRows, Component):
    """Base: the checks. The default settings are those of published figures for CNN/DailyMail."""

    stemming: bool = True
    """Stem words with Porter's stemmer, like ROUGE-1.5.5 with -m and the summarization scripts of transformers."""

    version: ClassVar[int] = 2  # values of rows are stored
    kinds: ClassVar[tuple[str, ...] | None] = ("pairs",)
    needs: ClassVar[tuple[Need, ...]] = ("outputs", "held_out")
    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "%"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 100.0)
    measure: ClassVar[str]  # rouge-score's name for it

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        info.text()
        if info.held_out < 1:
            raise ValueError(f"{self.measure} compares with held-out targets, but this data has no held-out rows")

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The number of pairs, and whether words are stemmed."""
        stemmed = "stemmed" if self.stemming else "not stemmed"
        return MetricNote(f"{note({'outputs': info.held_out}, space)}; words {stemmed}")

    def score_rows(self, evaluation: Evaluation) -> Mapping[str, Tensor]:
        """f (n,) float64: the F-measure of every row, 0 to 1."""
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([self.measure], use_stemmer=self.stemming)
        outputs = texts(tokens_of(evaluation, "outputs"), evaluation.info)
        targets = texts(tokens_of(evaluation, "held_out"), evaluation.info)
        f_measures = [
            scorer.score(target, output)[self.measure].fmeasure for target, output in zip(targets, outputs, strict=True)
        ]
        return {"f": torch.tensor(f_measures, dtype=torch.float64)}

    def sum_up(self, columns: Mapping[str, Tensor]) -> float:
        """The mean F-measure, in percent."""
        return 100 * math.fsum(columns["f"].tolist()) / len(columns["f"])

    def influence(self, columns: Mapping[str, Tensor], evaluation: Evaluation) -> Tensor | None:
        """The influence on a mean."""
        return ratio_influences(columns["f"], slope=100)


class Rouge1(_Rouge):
    """ROUGE-1 of the outputs for held-out sources: F-measure of common words, the mean over rows, in percent.

    Lin 2004, by rouge-score. An empty output scores 0. Targets are those of the data: cut at its length, and without
    what its tokenizer drops.
    """

    measure: ClassVar[str] = "rouge1"


class Rouge2(_Rouge):
    """ROUGE-2 of the outputs for held-out sources: F-measure of common pairs of words, the mean over rows, in percent.

    Lin 2004, by rouge-score. An empty output and an output of a single word score 0.
    """

    measure: ClassVar[str] = "rouge2"


class RougeL(_Rouge):
    """ROUGE-L of the outputs for held-out sources: F-measure of the longest common subsequence, mean, in percent.

    Lin 2004, by rouge-score, which treats a text as one sentence. Most papers on CNN/DailyMail call `rougeLsum`
    ROUGE-L, which is higher. An empty output scores 0.
    """

    measure: ClassVar[str] = "rougeL"


class RougeLsum(_Rouge):
    """Summary-level ROUGE-L of the outputs: longest common subsequences by line, F-measure, mean, in percent.

    Lin 2004, by rouge-score, which splits sentences at line breaks: without line breaks it is `rougeL`, and a tokenizer
    may drop them (T5's does). An empty output scores 0.
    """

    measure: ClassVar[str] = "rougeLsum"
