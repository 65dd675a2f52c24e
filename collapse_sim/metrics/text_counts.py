"""Metrics that count the words of texts: variety, repetition, length, similarity between texts."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import Field
from torch import Tensor

from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import PAD_TOKEN_ID
from collapse_sim.metrics.base import Evaluation, FeatureSpace, MetricNote
from collapse_sim.metrics.notes import note
from collapse_sim.metrics.text_base import Count, TextMetric, parts, picked, texts, tokens_of, words

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

    def facts(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
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
