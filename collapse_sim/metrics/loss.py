"""How well a model explains rows: its held-out loss and perplexity, and its samples' under generation 0 or a judge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.held_out_loss import BATCH_ROWS, HeldOutLoss, role_of_batch
from collapse_sim.families.hooks import HasLossUnit, HasTextLikelihood, RowLosses
from collapse_sim.metrics.aspects import Aspect
from collapse_sim.metrics.base import (
    Evaluation,
    FeatureSpace,
    MetricNote,
    Need,
    ScoredByRows,
    Which,
    note,
    ratio_influences,
)
from collapse_sim.metrics.language_model import ReadingMetric, reading
from collapse_sim.metrics.text_base import OF_HELD_OUT, Count, TextMetric, picked_rows, texts, tokens_of


class TestLoss(Component):
    """The family's own loss per row on the held-out real rows, under this generation's weights, without distillation.

    L_M(Test) of the KD paper. In the family's unit (nats per pixel, nats per row, squared error ...), so it compares
    arms of one family only. Noise and latents are the same for every arm, and batches do not depend on the machine.
    Values of rows are stored if the family has `row_losses`, but not for closed forms, whose rows are simulated anew
    for every seed.
    """

    __test__ = False  # for pytest: this is not a test

    version: ClassVar[int] = 2  # values of rows are stored, and summed in float64
    kinds: ClassVar[tuple[str, ...] | None] = None
    needs: ClassVar[tuple[Need, ...]] = ("model", "held_out")
    better: ClassVar[Literal["lower", "higher"] | None] = "lower"
    measures: ClassVar[tuple[Aspect, ...]] = ("risk",)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        if info.held_out < 1:
            raise ValueError("test_loss needs held-out rows, but this data has none")

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The number of rows."""
        return MetricNote(note({"held_out": info.held_out}, None))

    def unit_of(self, family: ModelFamily) -> str:
        """The unit of the family's loss; "" if it has none."""
        return str(family.loss_unit) if isinstance(family, HasLossUnit) else ""

    def score(self, evaluation: Evaluation) -> float | Tensor:
        loss = _held_out_loss(evaluation).mean()
        return loss if evaluation.stacked else float(loss)

    def score_rows(self, evaluation: Evaluation) -> Mapping[str, Tensor] | None:
        """loss (n,) and, if a row's count is not 1, count (n,) int64."""
        family = evaluation.family
        if evaluation.stacked or not isinstance(family, RowLosses):
            return None
        return _held_out_loss(evaluation).by_row()

    def sum_up(self, columns: Mapping[str, Tensor]) -> float:
        """The sum of losses over the sum of counts."""
        total = columns["loss"].double().sum()
        return float(total / (columns["count"].sum() if "count" in columns else len(columns["loss"])))

    def influence(self, columns: Mapping[str, Tensor], evaluation: Evaluation) -> Tensor | None:
        """The influence on a mean or on a ratio."""
        return ratio_influences(columns["loss"], columns.get("count"))


def _held_out_loss(evaluation: Evaluation) -> HeldOutLoss:
    return HeldOutLoss(
        evaluation.family,
        evaluation.model(),
        evaluation.rows("held_out"),
        lambda batch: evaluation.draws(role_of_batch(batch)),
        BATCH_ROWS,
        evaluation.machine,
        evaluation.stacked,
    )


class Perplexity(ScoredByRows, Component):
    """Perplexity of held-out real text under this generation's model: exp of the mean nats per token, from 1.

    exp(test_loss): every token that the model is trained to predict counts once, including the end of text; for pairs
    the tokens of the target, given the source. It depends on the tokenizer: comparable for one tokenizer only.
    """

    version: ClassVar[int] = 2  # values of rows are stored
    kinds: ClassVar[tuple[str, ...] | None] = ("text", "pairs")
    needs: ClassVar[tuple[Need, ...]] = ("model", "held_out")
    better: ClassVar[Literal["lower", "higher"] | None] = "lower"
    unit: ClassVar[str] = "per token"
    bounds: ClassVar[tuple[float | None, float | None]] = (1.0, None)
    measures: ClassVar[tuple[Aspect, ...]] = ("risk",)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        _check_family(family)
        if info.held_out < 1:
            raise ValueError("perplexity needs held-out rows, but this data has none")

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The number of rows."""
        return MetricNote(note({"held_out": info.held_out}, space))

    def score_rows(self, evaluation: Evaluation) -> Mapping[str, Tensor]:
        """nats (n,) float64 and tokens (n,) int64 of every row."""
        return nats_of(evaluation, evaluation.model(), "held_out")

    def sum_up(self, columns: Mapping[str, Tensor]) -> float:
        """exp(all nats / all tokens); nan when there are no tokens."""
        return of_tokens(columns)

    def influence(self, columns: Mapping[str, Tensor], evaluation: Evaluation) -> Tensor | None:
        """The influence on exp of a ratio."""
        return ratio_influences(columns["nats"], columns["tokens"], of_tokens(columns))


class SamplePerplexity(ScoredByRows, TextMetric):
    """Perplexity of this generation's samples under generation 0's model of the same seed, from 1.

    exp(all nats / all tokens). Under replace it falls while `perplexity` rises: samples approach the texts that
    generation 0 finds most likely, and real text becomes less likely. The histogram is over rows: exp of their nats per
    token.
    """

    version: ClassVar[int] = 2  # influences are stored
    unit: ClassVar[str] = "per token"
    bounds: ClassVar[tuple[float | None, float | None]] = (1.0, None)

    @property
    def needs(self) -> tuple[Need, ...]:
        """The texts, and generation 0's model."""
        return (self.of, "origin")

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        _check_family(family)

    def score_rows(self, evaluation: Evaluation) -> Mapping[str, Tensor]:
        """nats (n,) float64 and tokens (n,) int64 of every row."""
        return nats_of(evaluation, evaluation.origin(), self.of)

    def sum_up(self, columns: Mapping[str, Tensor]) -> float:
        """exp(all nats / all tokens); nan when there are no tokens."""
        return of_tokens(columns)

    def influence(self, columns: Mapping[str, Tensor], evaluation: Evaluation) -> Tensor | None:
        """The influence on exp of a ratio, if the texts are those of held-out rows."""
        if self.of not in OF_HELD_OUT:
            return None
        return ratio_influences(columns["nats"], columns["tokens"], of_tokens(columns))

    def histogram(self, columns: Mapping[str, Tensor]) -> tuple[str, Tensor]:
        """Perplexities of rows with tokens."""
        return "perplexity under generation 0, per token", of_rows(columns)


def _check_family(family: ModelFamily) -> None:
    if not isinstance(family, HasTextLikelihood):
        raise ValueError(
            f"{type(family).__name__} does not have the likelihood of texts (a method `nats`): use causal_lm "
            "or seq2seq, or the metric test_loss"
        )


@torch.no_grad()
def nats_of(evaluation: Evaluation, model: nn.Module, which: Which) -> dict[str, Tensor]:
    """-log p of every row under a model of the family, and its number of predicted tokens."""
    family = evaluation.family
    assert isinstance(family, HasTextLikelihood)
    with evaluation.machine.autocast():
        nats, tokens = family.nats(model, evaluation.rows(which))
    return {"nats": nats, "tokens": tokens}


def of_tokens(columns: Mapping[str, Tensor]) -> float:
    """exp(all nats / all tokens); nan without tokens, inf if too large for a float."""
    tokens = int(columns["tokens"].sum())
    return float((columns["nats"].sum() / tokens).exp()) if tokens else math.nan


def of_rows(columns: Mapping[str, Tensor]) -> Tensor:
    """exp(nats / tokens) of every row with tokens, in their order."""
    mask = columns["tokens"] > 0
    perplexities: Tensor = (columns["nats"][mask] / columns["tokens"][mask]).exp()
    return perplexities


class JudgePerplexity(ScoredByRows, ReadingMetric):
    """Perplexity of the texts, per token, under a named language model that no generation was fitted with.

    The KD paper's "mean perplexity" (its table 3, with `of: outputs`): the mean over texts of exp(nats / tokens).
    Texts are decoded, encoded by the judge's own tokenizer, prefixed with its BOS (or EOS) and cut to its positions;
    the end is not predicted. Texts without tokens are left out; nan when all are. The paper interprets a higher value
    as less narrowing, but text without meaning has a higher value, too: compare with `of: held_out`.
    """

    judge: str = "gpt2"
    """A causal language model, by name or folder."""
    mean: Literal["texts", "tokens"] = "texts"
    """texts: the mean of the texts' perplexities; tokens: exp of the mean nats of all tokens."""
    rows: Count = 1000
    """Maximum number of rows, drawn without replacement, the same ones for every arm."""

    version: ClassVar[int] = 2  # values of rows and influences are stored
    reads: ClassVar[str] = "judge"
    unit: ClassVar[str] = "per token"
    bounds: ClassVar[tuple[float | None, float | None]] = (1.0, None)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        self.reader.check(predicts=True)

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The numbers of rows, and the judge."""
        return MetricNote(f"{note(self._counts(info, samples), space, self.rows)}; {self.reader.label}")

    def score_rows(self, evaluation: Evaluation) -> Mapping[str, Tensor]:
        """nats (n,) float64 and tokens (n,) int64 of every text, and the index of its row, int64."""
        picked = picked_rows(evaluation, self.of, self.rows)
        row_texts = [list(texts(row[None], evaluation.info)) for row in tokens_of(evaluation, self.of)[picked]]
        with reading(evaluation.machine) as machine:
            nats, tokens = self.reader.nats([text for row in row_texts for text in row], machine)
        counts = torch.tensor(list(map(len, row_texts)))
        return {"nats": nats, "tokens": tokens, "row": picked.repeat_interleave(counts)}

    def sum_up(self, columns: Mapping[str, Tensor]) -> float:
        """The mean by `mean`; nan when no text has tokens."""
        if self.mean == "tokens":
            return of_tokens(columns)
        perplexities = of_rows(columns)
        return float(perplexities.mean()) if len(perplexities) else math.nan

    def influence(self, columns: Mapping[str, Tensor], evaluation: Evaluation) -> Tensor | None:
        """If the texts are those of held-out rows: the influence of whole rows on a mean of texts or exp of a ratio.

        It is 0 for rows that are not picked; those of picked rows are scaled up to all held-out rows.
        """
        if self.of not in OF_HELD_OUT:
            return None
        tokens = columns["tokens"]
        if self.mean == "tokens":
            influences = ratio_influences(columns["nats"], tokens, of_tokens(columns))
        else:
            mask = tokens > 0
            values = torch.zeros(len(tokens), dtype=torch.float64).masked_scatter(mask, of_rows(columns))
            influences = ratio_influences(values, mask)
        rows = evaluation.info.held_out
        scaled = influences * (rows / len(influences))
        return torch.zeros(rows, dtype=torch.float64).index_add(0, columns["row"], scaled)

    def histogram(self, columns: Mapping[str, Tensor]) -> tuple[str, Tensor]:
        """Perplexities of texts with tokens."""
        return f"perplexity under {Path(self.judge).name}, per token", of_rows(columns)
