"""Rows that are cut out of tokens when they are read: the blocks of all texts joined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from collapse_sim.data.text.text_rows import PackedRows, Stream
from collapse_sim.data.text.text_tokens import Tokens
from collapse_sim.data.text.tokens import Tokenizer, texts_in

from .making_texts import END, WORDS, random_texts


@pytest.mark.parametrize("begin", [0, 1])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 50])
def test_packed_rows_are_blocks_of_all_texts_joined(begin: int, length: int) -> None:
    """However they are read, with a begin that is the end or another token; and they fall into the texts again."""
    tokenizer = replace(Tokenizer.of_words(["<s>", *WORDS]), begin=begin)
    texts = [ids.astype(np.int16) for ids in tokenizer.encode(["", *random_texts(40), "", ""])]
    tokens = Tokens(np.concatenate(texts), np.cumsum([0, *map(len, texts)]))
    chosen = np.arange(0, len(texts), 2)
    joined = [begin]
    for place, number in enumerate(chosen):
        joined += [begin] * (place > 0 and begin != END) + texts[number].tolist() + [END]
    rows = PackedRows(Stream(tokens, chosen, tokenizer), length)
    blocks = np.array(joined[: len(joined) // length * length], np.int16).reshape(-1, length)
    assert len(rows) == len(blocks)
    draws = np.random.default_rng(length)
    for first, last in [(0, len(rows)), (0, 0), *np.sort(draws.integers(0, len(rows) + 1, (20, 2)))]:
        found = rows.read(int(first), int(last))["tokens"]
        assert np.array_equal(found, blocks[first:last])
        assert found.dtype == "int16"
    few = np.sort(draws.permutation(len(rows))[:3])
    assert np.array_equal(rows.select(few).read(0, 3)["tokens"], blocks[few])
    again = texts_in(np.array(joined), tokenizer)
    assert [ids.tolist() for ids in again] == [texts[number].tolist() for number in chosen]
