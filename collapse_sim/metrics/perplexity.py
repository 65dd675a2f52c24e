"""How well models predict texts: this generation's the held-out ones, and generation 0's this generation's own."""

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
from collapse_sim.metrics.base import Evaluation, FeatureSpace, MetricNote, Need, Which
from collapse_sim.metrics.influence import of_ratio
from collapse_sim.metrics.language_model import ReadingMetric, reading
from collapse_sim.metrics.notes import note
from collapse_sim.metrics.text_base import OF_HELD_OUT, Count, TextMetric, picked_rows, texts, tokens_of


class Perplexity(Component):
    """Perplexity of held-out real text under this generation's model: exp of the mean nats a token, from 1.

    exp(test_loss): each of the row's tokens that the model is trained to predict counts once, with the end of text; of
    pairs those of the target, given the source. In the unit of the tokenizer: comparable within one, not across.
    """

    version: ClassVar[int] = 2  # rows are kept
    kinds: ClassVar[tuple[str, ...] | None] = ("text", "pairs")
    needs: ClassVar[tuple[Need, ...]] = ("model", "held_out")
    better: ClassVar[Literal["lower", "higher"] | None] = "lower"
    unit: ClassVar[str] = "per token"
    bounds: ClassVar[tuple[float | None, float | None]] = (1.0, None)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        _check_family(family)
        if info.held_out < 1:
            raise ValueError("perplexity needs held-out rows, but this data has none")

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """Over how many rows."""
        return MetricNote(note({"held_out": info.held_out}, space))

    def score(self, evaluation: Evaluation) -> float | Tensor:
        return self.sum_up(self.score_rows(evaluation))

    def score_rows(self, evaluation: Evaluation) -> Mapping[str, Tensor]:
        """nats (n,) float64 and tokens (n,) int64 of every row."""
        return nats_of(evaluation, evaluation.model(), "held_out")

    def sum_up(self, columns: Mapping[str, Tensor]) -> float:
        """nan when there is no token at all."""
        return of_tokens(columns)

    def influence(self, columns: Mapping[str, Tensor], evaluation: Evaluation) -> Tensor | None:
        """Of exp of a ratio."""
        return of_ratio(columns["nats"], columns["tokens"], of_tokens(columns))


class SamplePerplexity(TextMetric):
    """Perplexity of this generation's samples under generation 0's model of the same seed, from 1.

    exp of all nats over all tokens. Under replace it falls while `perplexity` rises: samples draw near to what
    generation 0 finds likeliest, and real text moves away. The histogram is of rows: exp of their nats a token.
    """

    version: ClassVar[int] = 2  # influences are kept
    unit: ClassVar[str] = "per token"
    bounds: ClassVar[tuple[float | None, float | None]] = (1.0, None)

    @property
    def needs(self) -> tuple[Need, ...]:
        """The texts it looks at, and generation 0's model."""
        return (self.of, "origin")

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        _check_family(family)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        return self.sum_up(self.score_rows(evaluation))

    def score_rows(self, evaluation: Evaluation) -> Mapping[str, Tensor]:
        """nats (n,) float64 and tokens (n,) int64 of every row."""
        return nats_of(evaluation, evaluation.origin(), self.of)

    def sum_up(self, columns: Mapping[str, Tensor]) -> float:
        """nan when there is no token at all."""
        return of_tokens(columns)

    def influence(self, columns: Mapping[str, Tensor], evaluation: Evaluation) -> Tensor | None:
        """Of exp of a ratio, where the texts are those of held-out rows."""
        if self.of not in OF_HELD_OUT:
            return None
        return of_ratio(columns["nats"], columns["tokens"], of_tokens(columns))

    def histogram(self, columns: Mapping[str, Tensor]) -> tuple[str, Tensor]:
        """Perplexities of rows that have a token."""
        return "perplexity under generation 0, a token", of_rows(columns)


def _check_family(family: ModelFamily) -> None:
    if not callable(getattr(family, "nats", None)):
        raise ValueError(
            f"{type(family).__name__} does not tell the likelihood of texts (it has no method `nats`): use causal_lm "
            "or seq2seq, or measure test_loss"
        )


@torch.no_grad()
def nats_of(evaluation: Evaluation, model: nn.Module, which: Which) -> dict[str, Tensor]:
    """-log p of every row under a model of the family, and how many tokens are predicted in it."""
    with evaluation.machine.autocast():
        nats, tokens = evaluation.family.nats(model, evaluation.rows(which))  # type: ignore[attr-defined]
    return {"nats": nats, "tokens": tokens}


def of_tokens(columns: Mapping[str, Tensor]) -> float:
    """exp(all nats / all tokens); nan without a token, inf where it is too large for a number."""
    tokens = int(columns["tokens"].sum())
    return float((columns["nats"].sum() / tokens).exp()) if tokens else math.nan


def of_rows(columns: Mapping[str, Tensor]) -> Tensor:
    """exp(nats / tokens) of every row with a token, in their order."""
    there = columns["tokens"] > 0
    found: Tensor = (columns["nats"][there] / columns["tokens"][there]).exp()
    return found


class JudgePerplexity(ReadingMetric):
    """Perplexity of the texts, per token, under a named language model that no generation was fitted with.

    The KD paper's "mean perplexity" (its table 3, with `of: outputs`): of every text exp(nats / tokens), then the mean.
    Texts are decoded, encoded by the judge's own tokenizer, begun with its BOS (or EOS) and cut to its positions; the
    end is not predicted. Texts of no token have no perplexity and are left out; nan when all are. The paper reads
    higher as less narrowed; text that makes no sense is higher still: compare with `of: held_out`.
    """

    judge: str = "gpt2"
    """A causal language model, by name or folder."""
    mean: Literal["texts", "tokens"] = "texts"
    """Of texts' perplexities; tokens: exp of the mean nats of all tokens."""
    rows: Count = 1000
    """Drawn without replacement if there are more, the same ones for every arm."""

    version: ClassVar[int] = 2  # rows and influences are kept
    reads: ClassVar[str] = "judge"
    unit: ClassVar[str] = "per token"
    bounds: ClassVar[tuple[float | None, float | None]] = (1.0, None)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        self._found.check(predicts=True)

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """How many rows of how many, and the judge."""
        return MetricNote(f"{note(self._counts(info, samples), space, self.rows)}; {self._found.label}")

    def score(self, evaluation: Evaluation) -> float | Tensor:
        return self.sum_up(self.score_rows(evaluation))

    def score_rows(self, evaluation: Evaluation) -> Mapping[str, Tensor]:
        """nats (n,) float64 and tokens (n,) int64 of every text, and the number of its row, int64."""
        picked = picked_rows(evaluation, self.of, self.rows)
        each = [list(texts(row[None], evaluation.info)) for row in tokens_of(evaluation, self.of)[picked]]
        with reading(evaluation.machine) as machine:
            nats, tokens = self._found.nats([text for row in each for text in row], machine)
        return {"nats": nats, "tokens": tokens, "row": picked.repeat_interleave(torch.tensor(list(map(len, each))))}

    def sum_up(self, columns: Mapping[str, Tensor]) -> float:
        """nan when no text has a token."""
        if self.mean == "tokens":
            return of_tokens(columns)
        each = of_rows(columns)
        return float(each.mean()) if len(each) else math.nan

    def influence(self, columns: Mapping[str, Tensor], evaluation: Evaluation) -> Tensor | None:
        """Where the texts are those of held-out rows: of a mean of texts, or of exp of a ratio, for rows as a whole.

        Of rows that are not picked it is 0: what was picked is a part of the held-out rows, and so is its weight.
        """
        if self.of not in OF_HELD_OUT:
            return None
        tokens = columns["tokens"]
        if self.mean == "tokens":
            each = of_ratio(columns["nats"], tokens, of_tokens(columns))
        else:
            there = tokens > 0
            values = torch.zeros(len(tokens), dtype=torch.float64).masked_scatter(there, of_rows(columns))
            each = of_ratio(values, there)
        rows = evaluation.info.held_out
        return torch.zeros(rows, dtype=torch.float64).index_add(0, columns["row"], each * (rows / len(each)))

    def histogram(self, columns: Mapping[str, Tensor]) -> tuple[str, Tensor]:
        """Perplexities of texts that have a token."""
        return f"perplexity under {Path(self.judge).name}, a token", of_rows(columns)
