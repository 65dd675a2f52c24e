"""Word frequencies of texts: the real texts' vocabulary and its tail, and Zipf's exponent.

Words where a text is cut are left out, since they may be parts of words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field
from torch import Tensor

from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import Tokenizer
from collapse_sim.metrics.base import Evaluation, FeatureSpace, MetricNote, Need
from collapse_sim.metrics.content_cache import content_cache
from collapse_sim.metrics.text_base import Count, TextMetric, tokens_of, whole_words

RANKS = 5000  # of the least-squares fit, as in Holtzman et al.


class Words(NamedTuple):
    """The number of occurrences of every word, and the number of rows it occurs in."""

    times: Mapping[str, int]
    rows: Mapping[str, int]


class Zipf(TextMetric):
    """Exponent s of Zipf's law, frequency ~ rank^-s, of the words of all texts; about 1 for natural language.

    `fit: likelihood` is the maximum likelihood under p(r) = r^-s / sum over the V words seen, dominated by frequent
    words. `least_squares` is the slope of log frequency over log rank for the 5,000 most frequent words (Holtzman et
    al. 2020), dominated by rare words. It rises as frequent words replace rare ones, but hardly changes when rare words
    are lost altogether: read it together with `rare_words`. nan for fewer than two different words.
    """

    fit: Literal["likelihood", "least_squares"] = "likelihood"
    """How the exponent is estimated: by maximum likelihood or by least squares."""

    unit: ClassVar[str] = "exponent"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        counts = _word_counts(tokens_of(evaluation, self.of), evaluation.info).times.values()
        sorted_counts = np.array(sorted(counts, reverse=True), np.float64)
        if len(sorted_counts) < 2:
            return math.nan
        return _max_likelihood(sorted_counts) if self.fit == "likelihood" else _least_squares(sorted_counts[:RANKS])


def _max_likelihood(counts: np.ndarray) -> float:
    """The exponent whose expected log rank is the observed mean: there the derivative of the likelihood is 0."""
    from scipy.optimize import brentq

    ranks = np.log(np.arange(1, len(counts) + 1))
    observed = float((counts * ranks).sum() / counts.sum())

    def excess(exponent: float) -> float:
        weights = np.exp(-exponent * ranks)
        return float((weights * ranks).sum() / weights.sum()) - observed

    if excess(0.0) <= 0:
        return 0.0  # all words are equally frequent: counts fall with the rank, so it cannot be less
    high = 1.0
    while excess(high) > 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-12))


def _least_squares(counts: np.ndarray) -> float:
    ranks = np.log(np.arange(1, len(counts) + 1))
    return float(-np.polyfit(ranks, np.log(counts), 1)[0])


class Vocabulary(TextMetric):
    """Share of the different words of the real rows (of generation 0) that the texts have at least once, from 0 to 1.

    It depends on the number of texts: fewer texts have fewer words, however good the model. Resampled real rows are
    also below 1: compare with `of: held_out`, or use `rare_words` with `relative`.
    """

    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "share of words"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    @property
    def needs(self) -> tuple[Need, ...]:
        """The texts, and the real rows."""
        return (self.of, "real")

    def score(self, evaluation: Evaluation) -> float | Tensor:
        real = _word_counts(tokens_of(evaluation, "real"), evaluation.info).times
        generated = _word_counts(tokens_of(evaluation, self.of), evaluation.info).times
        return len(real.keys() & generated.keys()) / len(real) if real else math.nan


class RareWords(Vocabulary):
    """Share of the real rows' rare words that the texts have at least once, from 0 to 1: what collapse loses first.

    Rare words are the least frequent ones that together make up at most `share` of the real rows' text (always those of
    the lowest count), or those that occur at most `at_most` times. Even real rows drawn with replacement lack many of
    them: a word in r of n rows is among m drawn rows with probability 1 - (1 - r/n)^m. `relative` divides by this
    expectation; the score is then from 0 to about 1 and comparable between numbers of samples.
    """

    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    """Maximum share of the real rows' text that the rare words make up."""
    at_most: Count | None = None
    """Maximum number of occurrences of a rare word in the real rows; replaces `share`."""
    relative: bool = False
    """Whether to divide by the expected share of the same number of real rows, drawn with replacement."""

    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)  # `relative` may be somewhat above 1

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """Also which words are rare, and the expected share of words that occur once, in resampled real rows."""
        facts = super().facts(info, samples, space)
        drawn = self._counts(info, samples)[self.of]
        once = 100 * (1 - (1 - 1 / info.rows) ** drawn)
        rare = f"the rarest {100 * self.share:.3g} % of the real words"
        rare = rare if self.at_most is None else f"at most {self.at_most} times"
        over = ", relative to resampled real rows" if self.relative else ""
        return MetricNote(
            f"{facts.note}; rare: {rare}{over}; "
            f"{drawn:,} resampled real rows have {once:.0f} % of the words that occur once"
        )

    def score(self, evaluation: Evaluation) -> float | Tensor:
        real = _word_counts(tokens_of(evaluation, "real"), evaluation.info)
        tokens = tokens_of(evaluation, self.of)
        generated = _word_counts(tokens, evaluation.info).times
        limit = self._limit(real.times)
        rare = [word for word, times in real.times.items() if times <= limit]
        if not rare:
            return math.nan
        present = sum(word in generated for word in rare)
        if not self.relative:
            return present / len(rare)
        n = len(tokens_of(evaluation, "real"))
        return present / math.fsum(1 - (1 - real.rows[word] / n) ** len(tokens) for word in rare)

    def _limit(self, times: Mapping[str, int]) -> int:
        """The largest number of occurrences of a rare word."""
        if self.at_most is not None:
            return self.at_most
        remaining, limit = self.share * sum(times.values()), min(times.values(), default=0)
        for count, words in sorted(Counter(times.values()).items()):
            remaining -= count * words
            if remaining >= 0:
                limit = count
        return limit


def _word_counts(tokens: Tensor, info: Info) -> Words:
    return _count(tokens, info.text(), info.packed, info.kind == "text")


@content_cache
def _count(tokens: Tensor, tokenizer: Tokenizer, packed: bool, begun: bool) -> Words:
    times: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    for row in tokens.numpy():
        words = whole_words(row, tokenizer, packed, begun)
        times.update(words)
        rows.update(set(words))
    return Words(times, rows)
