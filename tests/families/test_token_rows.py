"""Padded rows of token ids, row by row in plain Python: lengths, order, trimming, ends of texts, padding."""

from __future__ import annotations

import random

import pytest
import torch

from collapse_sim.data.text.tokens import PAD_TOKEN_ID
from collapse_sim.families.token_rows import by_length, lengths, padded, trimmed, until_end

LENGTH = 9


def texts(seed: int, n: int = 30) -> list[list[int]]:
    dice = random.Random(seed)
    return [[dice.randrange(4) for _ in range(dice.randrange(LENGTH + 1))] for _ in range(n)]


def rows_of(found: list[list[int]], length: int = LENGTH) -> torch.Tensor:
    return torch.tensor([text + [PAD_TOKEN_ID] * (length - len(text)) for text in found], dtype=torch.int16)


@pytest.mark.parametrize("seed", range(5))
def test_lengths_and_order(seed: int) -> None:
    """The longest first, and those of one length as they came."""
    plain = texts(seed)
    rows = rows_of(plain)
    assert lengths(rows).tolist() == [len(text) for text in plain]
    assert by_length(rows).tolist() == sorted(range(len(plain)), key=lambda i: -len(plain[i]))


@pytest.mark.parametrize("bucket", [1, 2, 4, 32])
def test_trimming_cuts_columns_of_padding_only(bucket: int) -> None:
    for longest in range(LENGTH + 1):
        rows = rows_of([[1] * longest, [1] * (longest // 2)])
        found = trimmed(rows, bucket)
        wanted = min(LENGTH, -(-max(longest, 1) // bucket) * bucket)
        assert found.shape == (2, wanted)
        assert torch.equal(padded(found, LENGTH), rows)
    assert trimmed(rows_of([]).reshape(0, LENGTH), 4).shape == (0, 4)


@pytest.mark.parametrize("seed", range(5))
def test_texts_until_their_first_end(seed: int) -> None:
    plain = texts(seed)
    wanted = [text[: text.index(0) + 1] if 0 in text else text for text in plain]
    assert torch.equal(until_end(rows_of(plain), 0), rows_of(wanted))


def test_until_end() -> None:
    rows = torch.tensor([[5, 0, 7, 0], [1, 2, 3, 4], [0, 0, 0, 0]])
    assert until_end(rows, 0).tolist() == [[5, 0, -1, -1], [1, 2, 3, 4], [0, -1, -1, -1]]


@pytest.mark.parametrize("length", [1, 3, LENGTH, 20])
def test_padding_cuts_or_fills(length: int) -> None:
    plain = texts(0)
    found = padded(rows_of(plain), length)
    assert torch.equal(found, rows_of([text[:length] for text in plain], length))
    assert found.dtype == torch.int16
