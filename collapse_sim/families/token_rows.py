"""Padded rows of token ids as tensors: lengths, cutting, padding."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from collapse_sim.data.text.tokens import PAD_TOKEN_ID


def lengths(rows: Tensor) -> Tensor:
    """(n, L) ids -> (n,) int64: the number of tokens in each row."""
    return (rows != PAD_TOKEN_ID).sum(1)


def by_length(rows: Tensor) -> Tensor:
    """(n, L) ids -> (n,) int64: the rows in the order of their lengths, longest first; a stable sort."""
    return lengths(rows).argsort(descending=True, stable=True)


def trimmed(rows: Tensor, bucket: int) -> Tensor:
    """Without the last columns, which are PAD_TOKEN_ID in all rows, down to a multiple of `bucket`."""
    longest = max(1, int(lengths(rows).max())) if len(rows) else 1
    return rows[:, : -(-longest // bucket) * bucket]


def until_end(rows: Tensor, end: int) -> Tensor:
    """(n, L) ids with PAD_TOKEN_ID after the first `end` of each row."""
    ends = (rows == end).cumsum(1)
    after_end = (ends > 0) & ~((rows == end) & (ends == 1))
    return rows.masked_fill(after_end, PAD_TOKEN_ID)


def padded(rows: Tensor, length: int) -> Tensor:
    """(n, m) -> (n, length): cut, or filled with PAD_TOKEN_ID."""
    return F.pad(rows[:, :length], (0, max(0, length - rows.shape[1])), value=PAD_TOKEN_ID)
