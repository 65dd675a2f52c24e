"""Counts of the words of texts: variety, repetition, length, similarity; the vocabulary, its tail, Zipf's exponent.

Zipf, Vocabulary and RareWords leave out words where a text is cut, since they may be parts of words.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeVar

import numpy as np
from pydantic import Field
from torch import Tensor

from collapse_sim.core.content_cache import content_cache
from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, Tokenizer
from collapse_sim.metrics.aspects import Aspect
from collapse_sim.metrics.base import Evaluation, FeatureSpace, MetricNote, Need, note
from collapse_sim.metrics.text_base import Count, TextMetric, parts, picked, texts, tokens_of, whole_words, words

T = TypeVar("T")


def ngrams(sequence: Sequence[T], n: int) -> Iterator[tuple[T, ...]]:
    """All runs of n consecutive elements; none when there are fewer."""
    return zip(*(islice(sequence, start, None) for start in range(n)), strict=False)


class DistinctN(TextMetric):
    """Different n-grams of words over all n-grams, all texts together, from 0 to 1 (Li et al. 2016).

    It falls with the number of texts, whatever they are: compare equal numbers of about equal length. Noise raises it.
    nan when no text has n words.
    """

    n: Count = 2
    """Words of an n-gram."""

    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "share of n-grams"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    measures: ClassVar[tuple[Aspect, ...]] = ("variance",)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        numbers: dict[str, int] = {}  # they replace words, which take more memory
        seen: set[tuple[int, ...]] = set()
        total = 0
        for text in texts(tokens_of(evaluation, self.of), evaluation.info):
            grams = list(ngrams([numbers.setdefault(word, len(numbers)) for word in words(text)], self.n))
            seen.update(grams)
            total += len(grams)
        return len(seen) / total if total else math.nan


class Repetition(TextMetric):
    """Repetition within a text: 1 - different n-grams / n-grams of its words, the mean over texts, from 0 to 1.

    rep-n of Welleck et al. 2020 and Su et al. 2022, as a share. Texts of fewer than n words are left out; nan when all
    are. Long texts repeat more, as real ones do (`of: held_out`).
    """

    n: Count = 4
    """Words of an n-gram."""

    better: ClassVar[Literal["lower", "higher"] | None] = "lower"
    unit: ClassVar[str] = "share of n-grams"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        shares = []
        for text in texts(tokens_of(evaluation, self.of), evaluation.info):
            grams = list(ngrams(words(text), self.n))
            if grams:
                shares.append(1 - len(set(grams)) / len(grams))
        return math.fsum(shares) / len(shares) if shares else math.nan


class TextLength(TextMetric):
    """Mean length of a text, in words or in the data's own tokens; empty texts count as 0.

    For packed rows, in which texts are cut: all words over the number of texts that end in the rows; nan when none
    does. Texts that are cut at the rows' length count with their length after the cut.
    """

    unit: Literal["words", "tokens"] = "words"
    """What is counted."""

    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        tokens, info = tokens_of(evaluation, self.of), evaluation.info
        tokenizer = info.text()
        if self.unit == "words":
            total = sum(len(words(text)) for text in texts(tokens, info))
        else:
            total = sum(len(ids) for row in tokens.numpy() for ids in parts(row, tokenizer, info.packed))
        if not info.packed:
            return total / len(tokens)
        ends = int((tokens[tokens != PAD_TOKEN_ID] == tokenizer.end).sum())
        if tokenizer.begin == tokenizer.end:
            ends -= int((tokens[:, 0] == tokenizer.begin).sum())  # the first token of a row does not end a text in it
        return total / ends if ends else math.nan


EPSILON = 0.1  # replaces a count of 0


class SelfBLEU(TextMetric):
    """Mean BLEU of each text against all others as references, from 0 to 1; higher is less diverse (Zhu et al. 2018).

    Sentence BLEU with equal weights for 1 to n words; n-grams that no other text has count as 0.1 (method 1 of Chen &
    Cherry 2014, as in the paper's code). Over at most `rows` rows, the same ones for every arm: it rises with their
    number. Texts without words are left out; nan when fewer than two are left.
    """

    rows: Annotated[int, Field(ge=2)] = 200
    """Maximum number of rows, drawn without replacement."""
    n: Count = 4
    """Words of the longest n-grams."""

    better: ClassVar[Literal["lower", "higher"] | None] = "lower"
    unit: ClassVar[str] = "BLEU"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    least: ClassVar[int] = 2
    measures: ClassVar[tuple[Aspect, ...]] = ("variance",)

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The numbers of rows, and how many are used."""
        return MetricNote(note(self._counts(info, samples), space, self.rows))

    def score(self, evaluation: Evaluation) -> float | Tensor:
        chosen = texts(picked(evaluation, self.of, self.rows), evaluation.info)
        return self_bleu([text for text in map(words, chosen) if text], self.n)


def self_bleu(sentences: Sequence[Sequence[str]], n: int) -> float:
    """Sentences of at least one word -> the mean BLEU-n of each against the others; nan for fewer than two."""
    if len(sentences) < 2:
        return math.nan
    logs = [0.0] * len(sentences)
    for size in range(1, n + 1):
        counts = [Counter(ngrams(sentence, size)) for sentence in sentences]
        most = _two_highest(counts)
        for i, own in enumerate(counts):
            shared = 0
            for gram, times in own.items():
                highest, holder, second = most[gram]
                shared += min(times, second if holder == i else highest)
            if size == 1 and not shared:
                logs[i] = -math.inf  # no word in common
            logs[i] += math.log((shared or EPSILON) / max(1, own.total())) / n
    lengths = sorted(map(len, sentences))
    scores = [math.exp(log) * _brevity(len(sentence), lengths) for log, sentence in zip(logs, sentences, strict=True)]
    return math.fsum(scores) / len(scores)


def _two_highest(counts: Sequence[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """n-gram -> (its highest count in a sentence, the index of that sentence, its highest count in another one)."""
    most: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for i, own in enumerate(counts):
        for gram, times in own.items():
            highest, holder, second = most.get(gram, (0, -1, 0))
            most[gram] = (times, i, highest) if times > highest else (highest, holder, max(second, times))
    return most


def _brevity(length: int, lengths: Sequence[int]) -> float:
    """BLEU's brevity penalty against the nearest length among the others; of two equally near ones the shorter."""
    place = bisect_left(lengths, length)
    others = [*lengths[max(0, place - 1) : place], *lengths[place + 1 : place + 2]]
    nearest = min(others, key=lambda other: (abs(other - length), other))
    return 1.0 if length > nearest else math.exp(1 - nearest / length)


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
    measures: ClassVar[tuple[Aspect, ...]] = ("tail",)

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

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """Also which words are rare, and the expected share of words that occur once, in resampled real rows."""
        base = super().metric_note(info, samples, space)
        drawn = self._counts(info, samples)[self.of]
        once = 100 * (1 - (1 - 1 / info.rows) ** drawn)
        rare = f"the rarest {100 * self.share:.3g} % of the real words"
        rare = rare if self.at_most is None else f"at most {self.at_most} times"
        over = ", relative to resampled real rows" if self.relative else ""
        return MetricNote(
            f"{base.note}; rare: {rare}{over}; "
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
        for count, of_this_count in sorted(Counter(times.values()).items()):
            remaining -= count * of_this_count
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
