"""Rows of token ids, cut from memory-mapped tokens when they are read (for the format see tokens.py)."""

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
        """How many of the texts with these indices do not fit into a row together with their end token."""
        return int((self.tokens.lengths(texts) >= self.length - self.begin).sum())


@dataclass(frozen=True, eq=False)
class TextRows:
    """data.base.RowSource: one text per row, (rows, length) ids of the tokenizer's dtype in each column."""

    columns: Mapping[str, TokenColumn]
    texts: np.ndarray  # (rows,) int64, indices of the texts
    tokenizer: Tokenizer

    def __len__(self) -> int:
        return len(self.texts)

    def read(self, first: int, last: int) -> Columns:
        """Rows first, ..., last - 1."""
        return {name: self._read(column, self.texts[first:last]) for name, column in self.columns.items()}

    def select(self, rows: np.ndarray) -> TextRows:
        """The rows with these indices."""
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
    """Texts joined: [begin] t1 ... tn [end] t1 ... tm [end] ..., with a begin token per text if it differs from end.

    If both are the same token, the end of a text is also the begin of the next one.
    """

    tokens: Tokens
    texts: np.ndarray  # (n,) int64, indices of the texts
    tokenizer: Tokenizer

    def __len__(self) -> int:
        """The total number of tokens."""
        return int(self._starts[-1])

    @cached_property
    def _starts(self) -> np.ndarray:
        """(n + 1,) int64: the position of each text's begin token, or of its first token; last the total length."""
        lengths = self.tokens.lengths(self.texts) + 1 + self._begins(np.arange(len(self.texts)))
        return np.concatenate([[0], np.cumsum(lengths)])

    def _begins(self, texts: np.ndarray) -> np.ndarray:
        """Whether the text at each of these positions in `self.texts` has a begin token: 0 or 1."""
        return np.asarray((texts == 0) | (self.tokenizer.begin != self.tokenizer.end), np.int64)

    def read(self, first: int, last: int) -> np.ndarray:
        """Tokens first, ..., last - 1 of the stream, (last - first,) of the tokenizer's dtype."""
        ids = np.empty(last - first, self.tokenizer.dtype)
        position, number = first, int(np.searchsorted(self._starts, first, "right")) - 1
        while position < last:
            end = min(last, int(self._starts[number + 1]))
            start = int(self._starts[number])
            ids[position - first : end - first] = self._part(number, position - start, end - start)
            position, number = end, number + 1
        return ids

    def _part(self, number: int, first: int, last: int) -> np.ndarray:
        """Tokens first, ..., last - 1 of one text with its begin and end tokens."""
        head = int(self._begins(np.array(number)))
        ids = self.tokens.text(int(self.texts[number]))
        parts = [
            np.full(max(0, min(last, head) - first), self.tokenizer.begin),
            ids[max(0, first - head) : max(0, last - head)],
            np.full(max(0, last - head - len(ids)), self.tokenizer.end),
        ]
        return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class PackedRows:
    """data.base.RowSource: consecutive blocks of a stream, without an incomplete last block. Column "tokens"."""

    stream: Stream
    length: int
    blocks: np.ndarray | None = None  # indices of blocks; None: all

    def __len__(self) -> int:
        return len(self.stream) // self.length if self.blocks is None else len(self.blocks)

    def read(self, first: int, last: int) -> Columns:
        """Rows first, ..., last - 1."""
        length = self.length
        if self.blocks is None:
            rows = self.stream.read(first * length, last * length).reshape(-1, length)
        else:
            blocks = [self.stream.read(block * length, (block + 1) * length) for block in self.blocks[first:last]]
            rows = np.stack(blocks) if blocks else np.empty((0, length), self.stream.tokenizer.dtype)
        release(self.stream.tokens.ids)
        return {"tokens": rows}

    def select(self, rows: np.ndarray) -> PackedRows:
        """The rows with these indices."""
        return replace(self, blocks=rows)
