"""Generated text compared with the grammar that the real text was drawn from: use of productions, and likelihood.

Productions are counted in every text up to the point where it no longer follows the grammar (a single wrong word does
not end the count), so the figures on a model's choices hardly depend on its errors elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.data.base import Data, Info
from collapse_sim.data.text.grammar_stories import GrammarText
from collapse_sim.data.text.pcfg import Grammar
from collapse_sim.data.text.tokens import PAD_TOKEN_ID
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.hooks import HasTextLikelihood
from collapse_sim.metrics.aspects import Aspect
from collapse_sim.metrics.base import (
    Evaluation,
    FeatureSpace,
    MetricNote,
    Need,
    ScoredByRows,
    count_of,
    note,
    ratio_influences,
)
from collapse_sim.metrics.loss import nats_of
from collapse_sim.metrics.text_base import TextMetric, tokens_of


class GrammarMetric(TextMetric):
    """Base: texts parsed by the data's grammar."""

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        _check_truth(self, info)
        if self.of == "samples" and _continues_prompts(family):
            raise ValueError(
                f"{type(self).__name__} reads whole texts, but samples that continue prompts have no beginning: set "
                "the model's `keep_prompt: true`, or no `prompt`"
            )

    def note_from_truth(self, info: Info, data: Data, samples: int) -> MetricNote:
        """The numbers of rows, and reference values from the true grammar."""
        rows = count_of(self.of, info, samples)
        reference = self._reference(_truth(data), rows)
        return MetricNote(note(self._counts(info, samples), None) + (f"; {reference}" if reference else ""))

    def _reference(self, data: GrammarText, rows: int) -> str:
        return ""


class _Rare(GrammarMetric):
    """Base: the tail, productions whose expected number of uses in a real text is less than `below`."""

    below: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 0.02
    """Rare productions have fewer expected uses per text; .02: in at most one text of 50."""

    def _rare(self, grammar: Grammar) -> Tensor:
        """bool (P,)"""
        return torch.from_numpy(grammar.uses < self.below)

    def _reference(self, data: GrammarText, rows: int) -> str:
        rare = self._rare(data.true_grammar())
        return f"{int(rare.sum())} of {len(rare)} productions are used less than {self.below:g} times per real text"


class RareProductions(_Rare):
    """Share of the rare productions that occur in the texts at all, 0 to 1: what is left of the tail.

    It grows with the number of texts, so compare equal numbers. The expectation for real texts is shown beside it: the
    mean of 1 - P(a text does not use the production)^n. For pairs the productions are the target's.
    """

    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "share of productions"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    measures: ClassVar[tuple[Aspect, ...]] = ("tail",)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        data = _truth(evaluation.data)
        used = data.productions(evaluation.rows(self.of))
        return float((used[self._rare(data.true_grammar())] > 0).double().mean())

    def _reference(self, data: GrammarText, rows: int) -> str:
        grammar = data.true_grammar()
        expected = 1 - torch.from_numpy(grammar.missed)[self._rare(grammar)] ** rows
        return f"{super()._reference(data, rows)}, and {rows:,} real texts have {float(expected.mean()):.3f} of them"


class RareUse(_Rare):
    """How often rare productions are chosen, over how often the truth would choose them in the same places: 1 is right.

    Below 1 the model prefers common productions (a low temperature, top-p, beams, greedy decoding). Chance alone loses
    productions but leaves this at 1 in the mean, since the remaining ones gain what others lose; read it together with
    `rare_productions`.
    """

    unit: ClassVar[str] = "ratio"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    measures: ClassVar[tuple[Aspect, ...]] = ("tail",)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        data = _truth(evaluation.data)
        grammar = data.true_grammar()
        used, rare = data.productions(evaluation.rows(self.of)).double(), self._rare(grammar)
        expected = _choices(grammar, used) * torch.tensor([p.probability for p in grammar.productions])
        return float(used[rare].sum() / expected[rare].sum())


class ProductionKL(GrammarMetric):
    """KL divergence of the grammar refitted to the texts from the true one, in nats per token, from 0.

    sum_A uses(A) KL(p_A || q_A) over nonterminals, with the true uses and p, divided by the true mean number of tokens:
    the cost of wrong frequencies of productions, one part of a model's errors (`grammar_kl`). q_A are the frequencies
    in the texts with the choices of one true text added, (counts + p_A) / (sum of counts + 1), so that a production
    that never occurs costs p log(p / q) and not infinity. Choices determined by facts (headlines of reports) are left
    out.
    """

    better: ClassVar[Literal["lower", "higher"] | None] = "lower"
    unit: ClassVar[str] = "nats per token"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    measures: ClassVar[tuple[Aspect, ...]] = ("drift",)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        data = _truth(evaluation.data)
        grammar = data.true_grammar()
        used = data.productions(evaluation.rows(self.of)).double()
        true = torch.tensor([p.probability for p in grammar.productions], dtype=torch.float64)
        refitted = (used + true) / (_choices(grammar, used) + 1)
        costs = torch.from_numpy(grammar.uses) * (true / refitted).log()
        return float(costs[_drawn(grammar)].sum()) / (grammar.mean_words + 1)

    def _reference(self, data: GrammarText, rows: int) -> str:
        """The expectation of chi-squared statistics: (K - 1) / 2n each."""
        grammar = data.true_grammar()
        cost = 0.0
        for left, numbers in grammar.of.items():
            choices = rows * float(grammar.uses[numbers].sum())
            cost += (
                (left not in grammar.chosen_by_facts) * (len(numbers) - 1) / 2 / rows * (choices / (choices + 1)) ** 2
            )
        return f"of {rows:,} real texts about {cost / (grammar.mean_words + 1):.5f}"


class Grammatical(GrammarMetric):
    """Share of texts that the grammar can generate, 0 to 1; for pairs, of headlines that fit their own report."""

    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "share of texts"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    def resolution(self, info: Info, samples: int) -> float:
        """One text's share."""
        return 1 / count_of(self.of, info, samples)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        log_p = _truth(evaluation.data).log_probability(evaluation.rows(self.of))
        return float(log_p.isfinite().double().mean())


class GrammarNLL(GrammarMetric):
    """Mean negative log probability of the grammatical texts under the grammar, in nats per token.

    For a perfect model it is the true entropy (shown beside it). It falls below that when texts concentrate where the
    probability is high, and rises above it when rare texts become common. nan when no text is grammatical.
    """

    unit: ClassVar[str] = "nats per token"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        log_p = _truth(evaluation.data).log_probability(evaluation.rows(self.of))
        tokens = _tokens(evaluation.info, tokens_of(evaluation, self.of))
        grammatical = log_p.isfinite()
        return float(-log_p[grammatical].sum() / tokens[grammatical].sum())

    def _reference(self, data: GrammarText, rows: int) -> str:
        return f"true: {data.entropy_per_token():.4f}"


class GrammarKL(ScoredByRows, Component):
    """KL divergence of the model from the truth, in nats per token, from 0: all errors of the model.

    The mean of log p_true - log p_model over the held-out rows, all nats over all tokens (the end of a text is one; for
    pairs the target's, given the source). It is the held-out loss minus the entropy, both on the same rows, which
    removes most of the noise of few rows. With few rows it may be slightly negative.
    """

    version: ClassVar[int] = 2  # values of rows are stored
    kinds: ClassVar[tuple[str, ...] | None] = ("text", "pairs")
    needs: ClassVar[tuple[Need, ...]] = ("model", "held_out")
    better: ClassVar[Literal["lower", "higher"] | None] = "lower"
    unit: ClassVar[str] = "nats per token"
    measures: ClassVar[tuple[Aspect, ...]] = ("risk", "drift")

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        _check_truth(self, info)
        if not isinstance(family, HasTextLikelihood):
            raise ValueError(
                f"GrammarKL needs a model with the likelihood of texts, but {type(family).__name__} does not have it "
                "(a method `nats`): use causal_lm or seq2seq"
            )

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The number of rows."""
        return MetricNote(note({"held_out": info.held_out}, None))

    def score_rows(self, evaluation: Evaluation) -> Mapping[str, Tensor]:
        """For every row: nats (n,) in excess of the truth's, float64, and tokens (n,) int64."""
        rows = nats_of(evaluation, evaluation.model(), "held_out")
        true = _truth(evaluation.data).log_probability(evaluation.rows("held_out"))
        return {"nats": rows["nats"].double() + true, "tokens": rows["tokens"]}

    def sum_up(self, columns: Mapping[str, Tensor]) -> float:
        """All nats over all tokens."""
        return float(columns["nats"].sum() / columns["tokens"].sum())

    def influence(self, columns: Mapping[str, Tensor], evaluation: Evaluation) -> Tensor | None:
        """The influence on a ratio."""
        return ratio_influences(columns["nats"], columns["tokens"])


def _check_truth(metric: Component, info: Info) -> None:
    if "true_grammar" not in info.known_truths:
        raise ValueError(
            f"{type(metric).__name__} needs text whose grammar is known: the data `grammar` or `grammar_pairs`"
        )


def _continues_prompts(family: ModelFamily) -> bool:
    """Whether its samples are continuations without their prompts."""
    return bool(getattr(family, "prompt", 0)) and not bool(getattr(family, "keep_prompt", False))


def _truth(data: Data) -> GrammarText:
    return cast(GrammarText, data)


def _choices(grammar: Grammar, used: Tensor) -> Tensor:
    """(P,) uses -> (P,): how often each production could have been chosen."""
    choices = torch.zeros_like(used)
    for numbers in grammar.of.values():
        choices[numbers] = used[numbers].sum()
    return choices


def _drawn(grammar: Grammar) -> Tensor:
    """bool (P,): productions that are chosen at random, not determined by facts."""
    return torch.tensor([p.left not in grammar.chosen_by_facts for p in grammar.productions])


def _tokens(info: Info, rows: Tensor) -> Tensor:
    """(n, L) -> (n,): the number of predicted tokens, all except a story's begin."""
    return (rows[:, int(info.kind == "text") :] != PAD_TOKEN_ID).sum(1)
