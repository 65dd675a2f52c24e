"""How varied texts are, and how long: shares of different n-grams of words, over all texts and within one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import ClassVar, Literal, TypeVar

from torch import Tensor

from collapse_sim.data.text.tokens import NOTHING
from collapse_sim.metrics.base import Evaluation
from collapse_sim.metrics.text_base import Count, TextMetric, parts, texts, tokens_of, words

T = TypeVar("T")


def ngrams(sequence: Sequence[T], n: int) -> Iterator[tuple[T, ...]]:
    """All runs of n neighbours; none when there are fewer."""
    return zip(*(islice(sequence, start, None) for start in range(n)), strict=False)


class DistinctN(TextMetric):
    """Different n-grams of words over all n-grams, all texts together, from 0 to 1 (Li et al. 2016).

    It falls as there are more texts, whatever they are: compare equal numbers of about equal length. Noise raises it.
    nan when no text has n words.
    """

    n: Count = 2  # words of an n-gram

    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "share of n-grams"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        numbers: dict[str, int] = {}  # in place of words, which take more memory
        seen: set[tuple[int, ...]] = set()
        total = 0
        for text in texts(tokens_of(evaluation, self.of), evaluation.info):
            found = list(ngrams([numbers.setdefault(word, len(numbers)) for word in words(text)], self.n))
            seen.update(found)
            total += len(found)
        return len(seen) / total if total else math.nan


class Repetition(TextMetric):
    """How much a text repeats itself: 1 - different n-grams / n-grams of its words, the mean over texts, from 0 to 1.

    rep-n of Welleck et al. 2020 and Su et al. 2022, as a share. Texts of fewer than n words are left out; nan when all
    are. Long texts repeat more, real ones too (`of: held_out`).
    """

    n: Count = 4  # words of an n-gram

    better: ClassVar[Literal["lower", "higher"] | None] = "lower"
    unit: ClassVar[str] = "share of n-grams"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        shares = []
        for text in texts(tokens_of(evaluation, self.of), evaluation.info):
            found = list(ngrams(words(text), self.n))
            if found:
                shares.append(1 - len(set(found)) / len(found))
        return math.fsum(shares) / len(shares) if shares else math.nan


class Length(TextMetric):
    """Mean length of a text, in words or in the data's own tokens; empty texts count as 0.

    Of packed rows, in which texts are cut: all words over the texts that end in them; nan when none does. Texts that
    are cut at the rows' length count as long as they are there.
    """

    unit: Literal["words", "tokens"] = "words"  # what is counted

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
        ends = int((tokens[tokens != NOTHING] == tokenizer.end).sum())
        if tokenizer.begin == tokenizer.end:
            ends -= int((tokens[:, 0] == tokenizer.begin).sum())  # what stands first ends nothing in its row
        return total / ends if ends else math.nan
