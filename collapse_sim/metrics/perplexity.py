"""How well models predict texts: this generation's the held-out ones, and generation 0's this generation's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import Evaluation, Facts, FeatureSpace, Need, Which
from collapse_sim.metrics.influence import of_ratio
from collapse_sim.metrics.notes import note
from collapse_sim.metrics.text_base import OF_HELD_OUT, TextMetric


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

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> Facts:
        """Over how many rows."""
        return Facts(note({"held_out": info.held_out}, space))

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
