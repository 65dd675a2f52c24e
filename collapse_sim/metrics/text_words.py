"""Which words texts use, and how often: the real texts' vocabulary and its tail, and Zipf's exponent.

Words at a place where a text is cut are left out, since they may be parts of words.
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

RANKS = 5000  # of the least-squares fit, as Holtzman et al. take


class Words(NamedTuple):
    """How often every word occurs, and in how many rows."""

    times: Mapping[str, int]
    rows: Mapping[str, int]


class Zipf(TextMetric):
    """Exponent s of Zipf's law, frequency ~ rank^-s, of the words of all texts; about 1 for natural language.

    `fit: likelihood` is the maximum likelihood under p(r) = r^-s / sum over the V words seen, to which frequent words
    matter most. `least_squares` is the slope of log frequency over log rank for the 5,000 most frequent words (Holtzman
    et al. 2020), to which rare words matter most. It rises as frequent words crowd out rare ones, but hardly changes
    when rare words are cut off altogether: read it beside `rare_words`. nan for fewer than two different words.
    """

    fit: Literal["likelihood", "least_squares"] = "likelihood"
    """How the exponent is estimated."""

    unit: ClassVar[str] = "exponent"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        counts = _counted(tokens_of(evaluation, self.of), evaluation.info).times.values()
        found = np.array(sorted(counts, reverse=True), np.float64)
        if len(found) < 2:
            return math.nan
        return _likeliest(found) if self.fit == "likelihood" else _slope(found[:RANKS])


def _likeliest(counts: np.ndarray) -> float:
    """The exponent under which the mean log rank is the one that was seen: where the likelihood's derivative is 0."""
    from scipy.optimize import brentq

    ranks = np.log(np.arange(1, len(counts) + 1))
    seen = float((counts * ranks).sum() / counts.sum())

    def apart(exponent: float) -> float:
        weights = np.exp(-exponent * ranks)
        return float((weights * ranks).sum() / weights.sum()) - seen

    if apart(0.0) <= 0:
        return 0.0  # all words equally often: counts fall with the rank, so it cannot be less
    high = 1.0
    while apart(high) > 0:
        high *= 2
    return float(brentq(apart, 0.0, high, xtol=1e-12))


def _slope(counts: np.ndarray) -> float:
    ranks = np.log(np.arange(1, len(counts) + 1))
    return float(-np.polyfit(ranks, np.log(counts), 1)[0])


class Vocabulary(TextMetric):
    """Share of the different words of the real rows (of generation 0) that the texts have at least once, from 0 to 1.

    It depends on how many texts there are: fewer have fewer words, however good the model. Real rows that are drawn
    again fall short of 1 as well: compare with `of: held_out`, or use `rare_words` with `relative`.
    """

    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "share of words"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    @property
    def needs(self) -> tuple[Need, ...]:
        """The texts it looks at, and the real rows."""
        return (self.of, "real")

    def score(self, evaluation: Evaluation) -> float | Tensor:
        real = _counted(tokens_of(evaluation, "real"), evaluation.info).times
        there = _counted(tokens_of(evaluation, self.of), evaluation.info).times
        return len(real.keys() & there.keys()) / len(real) if real else math.nan


class RareWords(Vocabulary):
    """Share of the real rows' rare words that the texts have at least once, from 0 to 1: what collapse loses first.

    Rare are the least frequent words that together make up at most `share` of the real rows' text (those of the lowest
    count in any case), or those that occur at most `at_most` times. Even real rows drawn again (with replacement) lack
    many of them: a word in r of n rows is among m drawn ones with probability 1 - (1 - r/n)^m. `relative` divides by
    what is so expected, and is then from 0 to about 1, comparable between numbers of samples.
    """

    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    """Of all words of the real rows, the least frequent ones."""
    at_most: Count | None = None
    """Occurrences in the real rows; takes the place of `share`."""
    relative: bool = False
    """Over the share that as many real rows would have, drawn with replacement."""

    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)  # `relative` may be somewhat above 1

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """Also which words are rare, and what real rows drawn again would have of those that occur once."""
        facts = super().facts(info, samples, space)
        drawn = self._counts(info, samples)[self.of]
        once = 100 * (1 - (1 - 1 / info.rows) ** drawn)
        rare = f"the rarest {100 * self.share:.3g} % of the real words"
        rare = rare if self.at_most is None else f"at most {self.at_most} times"
        over = ", relative to real rows drawn again" if self.relative else ""
        return MetricNote(
            f"{facts.note}; rare: {rare}{over}; {drawn:,} real rows drawn again have {once:.0f} % of those seen once"
        )

    def score(self, evaluation: Evaluation) -> float | Tensor:
        real = _counted(tokens_of(evaluation, "real"), evaluation.info)
        tokens = tokens_of(evaluation, self.of)
        there = _counted(tokens, evaluation.info).times
        limit = self._limit(real.times)
        rare = [word for word, times in real.times.items() if times <= limit]
        if not rare:
            return math.nan
        kept = sum(word in there for word in rare)
        if not self.relative:
            return kept / len(rare)
        n = len(tokens_of(evaluation, "real"))
        return kept / math.fsum(1 - (1 - real.rows[word] / n) ** len(tokens) for word in rare)

    def _limit(self, times: Mapping[str, int]) -> int:
        """The number of occurrences up to which a word is rare."""
        if self.at_most is not None:
            return self.at_most
        room, limit = self.share * sum(times.values()), min(times.values(), default=0)
        for count, different in sorted(Counter(times.values()).items()):
            room -= count * different
            if room >= 0:
                limit = count
        return limit


def _counted(tokens: Tensor, info: Info) -> Words:
    return _count(tokens, info.text(), info.packed, info.kind == "text")


@content_cache
def _count(tokens: Tensor, tokenizer: Tokenizer, packed: bool, begun: bool) -> Words:
    times: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    for row in tokens.numpy():
        found = whole_words(row, tokenizer, packed, begun)
        times.update(found)
        rows.update(set(found))
    return Words(times, rows)
