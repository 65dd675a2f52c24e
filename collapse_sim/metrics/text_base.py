"""Shared code of text metrics: selection of texts, and the definition of a word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, Tokenizer, texts_in
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import Evaluation, FeatureSpace, MetricNote, Need, Which, count_of, note

Of = Literal["samples", "outputs", "held_out"]
OF_HELD_OUT: tuple[Of, ...] = ("outputs", "held_out")  # one text, or one row of texts, per held-out row
Count = Annotated[int, Field(gt=0)]
WORD = re.compile(
    r"\w+(?:['’]\w+)*|[^\w\s]"
)  # letters and digits, with inner apostrophes; any other character by itself


class TextMetric(Component):
    """Base: the texts of `tokens`, for pairs those of `target`."""

    of: Of = "samples"
    """Which texts: samples; outputs (generated for held-out rows); or held_out (the held-out rows, as a reference)."""

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...] | None] = ("text", "pairs")
    better: ClassVar[Literal["lower", "higher"] | None] = None
    least: ClassVar[int] = 1  # rows

    @property
    def needs(self) -> tuple[Need, ...]:
        """The texts."""
        return (self.of,)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        info.text()
        for which, rows in self._counts(info, samples).items():
            if rows < self.least:
                what = which.replace("_", "-") + (" rows" if which in ("held_out", "real") else "")
                raise ValueError(f"too few {what}: {rows}, and {type(self).__name__} needs at least {self.least}")

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The numbers of rows."""
        return MetricNote(note(self._counts(info, samples), space))

    def _counts(self, info: Info, samples: int) -> dict[Which, int]:
        sides: tuple[Which, ...] = ("samples", "outputs", "held_out", "real")
        return {which: count_of(which, info, samples) for which in sides if which in self.needs}


def tokens_of(evaluation: Evaluation, which: Which) -> Tensor:
    """(n, L) ids of the texts."""
    return evaluation.rows(which)["target" if evaluation.info.kind == "pairs" else "tokens"]


def picked(evaluation: Evaluation, which: Which, rows: int) -> Tensor:
    """At most `rows` rows of `tokens_of`, in their order: the same ones for every arm and generation."""
    tokens = tokens_of(evaluation, which)
    return tokens[picked_rows(evaluation, which, rows)] if len(tokens) > rows else tokens


def picked_rows(evaluation: Evaluation, which: Which, rows: int) -> Tensor:
    """The indices of the rows that `picked` returns, ascending."""
    n = len(tokens_of(evaluation, which))
    if n <= rows:
        return torch.arange(n)
    order = evaluation.draws(f"metric_rows/{which}").permutation(n).cpu()
    return order[:rows].sort().values


def texts(tokens: Tensor, info: Info) -> Iterator[str]:
    """The text of every row, which may be empty; for packed rows every text, at least one per row."""
    tokenizer = info.text()
    for row in tokens.numpy():
        for ids in parts(row, tokenizer, info.packed):
            yield tokenizer.decode(ids)


def parts(row: np.ndarray, tokenizer: Tokenizer, packed: bool) -> list[np.ndarray]:
    """(L,) ids -> the ids of its texts, without begin, end and PAD_TOKEN_ID; one text if the row is not packed."""
    if packed:
        return texts_in(row, tokenizer)
    return [row[~np.isin(row, (PAD_TOKEN_ID, tokenizer.begin, tokenizer.end))]]


def words(text: str) -> list[str]:
    """The words of a text in lower case: runs of letters and digits, possibly with inner apostrophes, and every other
    character that is not a space by itself. "It's 3.5!" is it's 3 . 5 !"""
    return WORD.findall(text.lower())


def whole_words(row: np.ndarray, tokenizer: Tokenizer, packed: bool, begun: bool) -> list[str]:
    """The words of all texts in a row, except those where a text is cut, which may be parts of words.

    `begun`: whole texts begin after the token `begin` or `end` (rows of `tokens`; not targets of pairs).
    """
    ids = row[row != PAD_TOKEN_ID]
    text_words = [words(tokenizer.decode(part)) for part in parts(row, tokenizer, packed)]
    if len(ids) and begun and ids[0] not in (tokenizer.begin, tokenizer.end):
        text_words[0] = text_words[0][1:]
    if len(ids) and ids[-1] != tokenizer.end:
        text_words[-1] = text_words[-1][:-1]
    return [word for text in text_words for word in text]
