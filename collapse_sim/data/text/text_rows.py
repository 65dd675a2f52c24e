"""Rows of token ids, cut out of memory-mapped tokens as they are read (the format is that of tokens.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from collapse_sim.data.base import Columns
from collapse_sim.data.data_files import release
from collapse_sim.data.text.text_tokens import Tokens
from collapse_sim.data.text.tokens import Tokenizer, row_of


@dataclass(frozen=True, eq=False)
class TokenColumn:
    """One column of unpacked rows."""

    tokens: Tokens
    length: int
    begin: bool  # see tokens.row_of
    cut_ends: bool

    def cut(self, texts: np.ndarray) -> int:
        """How many of these texts, by their numbers, do not fit into a row with their end."""
        return int((self.tokens.lengths(texts) >= self.length - self.begin).sum())


@dataclass(frozen=True, eq=False)
class TextRows:
    """data.base.RowSource: one text a row, (rows, length) ids of the tokenizer's dtype in every column."""

    columns: Mapping[str, TokenColumn]
    texts: np.ndarray  # (rows,) int64, their numbers
    tokenizer: Tokenizer

    def __len__(self) -> int:
        return len(self.texts)

    def read(self, first: int, last: int) -> Columns:
        """Rows first, ..., last - 1."""
        return {name: self._read(column, self.texts[first:last]) for name, column in self.columns.items()}

    def some(self, rows: np.ndarray) -> TextRows:
        """Only these rows."""
        return replace(self, texts=self.texts[rows])

    def _read(self, column: TokenColumn, texts: np.ndarray) -> np.ndarray:
        rows = np.empty((len(texts), column.length), self.tokenizer.dtype)
        for row, text in zip(rows, texts, strict=True):
            ids = column.tokens.text(int(text))[: column.length]
            row[:] = row_of(ids, column.length, self.tokenizer, begin=column.begin, cut_ends=column.cut_ends)
        release(column.tokens.ids)
        return rows


@dataclass(frozen=True, eq=False)
class Stream:
    """Texts joined: [begin] t1 ... tn [end] t1 ... tm [end] ..., with a begin for every text if it is no end.

    The end of a text is what the next one begins with where both are the same token.
    """

    tokens: Tokens
    texts: np.ndarray  # (n,) int64, their numbers
    tokenizer: Tokenizer

    def __len__(self) -> int:
        """Tokens of all."""
        return int(self._starts[-1])

    @cached_property
    def _starts(self) -> np.ndarray:
        """(n + 1,) int64: where each text's begin is, or the text itself if it has none; and the end of all."""
        lengths = self.tokens.lengths(self.texts) + 1 + self._heads(np.arange(len(self.texts)))
        return np.concatenate([[0], np.cumsum(lengths)])

    def _heads(self, texts: np.ndarray) -> np.ndarray:
        """Whether the text at each of these places has a begin: 0 or 1."""
        return np.asarray((texts == 0) | (self.tokenizer.begin != self.tokenizer.end), np.int64)

    def read(self, first: int, last: int) -> np.ndarray:
        """(last - first,) tokens from the place `first` on, of the tokenizer's dtype."""
        found = np.empty(last - first, self.tokenizer.dtype)
        place, number = first, int(np.searchsorted(self._starts, first, "right")) - 1
        while place < last:
            end = min(last, int(self._starts[number + 1]))
            start = int(self._starts[number])
            found[place - first : end - first] = self._part(number, place - start, end - start)
            place, number = end, number + 1
        return found

    def _part(self, number: int, first: int, last: int) -> np.ndarray:
        """Tokens first, ..., last - 1 of one text between its begin and its end."""
        head = int(self._heads(np.array(number)))
        ids = self.tokens.text(int(self.texts[number]))
        parts = [
            np.full(max(0, min(last, head) - first), self.tokenizer.begin),
            ids[max(0, first - head) : max(0, last - head)],
            np.full(max(0, last - head - len(ids)), self.tokenizer.end),
        ]
        return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class PackedRows:
    """data.base.RowSource: consecutive blocks of a stream, without its incomplete last one. Column "tokens"."""

    stream: Stream
    length: int
    blocks: np.ndarray | None = None  # which of them; None: all

    def __len__(self) -> int:
        return len(self.stream) // self.length if self.blocks is None else len(self.blocks)

    def read(self, first: int, last: int) -> Columns:
        """Rows first, ..., last - 1."""
        length = self.length
        if self.blocks is None:
            rows = self.stream.read(first * length, last * length).reshape(-1, length)
        else:
            found = [self.stream.read(block * length, (block + 1) * length) for block in self.blocks[first:last]]
            rows = np.stack(found) if found else np.empty((0, length), self.stream.tokenizer.dtype)
        release(self.stream.tokens.ids)
        return {"tokens": rows}

    def some(self, rows: np.ndarray) -> PackedRows:
        """Only these rows."""
        return replace(self, blocks=rows)
