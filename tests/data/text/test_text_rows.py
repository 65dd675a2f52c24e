"""Rows that are cut out of tokens when they are read: the blocks of all texts joined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from collapse_sim.data.text.text_rows import PackedRows, Stream, TextRows, TokenColumn
from collapse_sim.data.text.text_tokens import Tokens
from collapse_sim.data.text.tokens import Tokenizer, texts_in

from .making_texts import END, NO, WORDS, random_texts


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


@pytest.mark.parametrize("begin", [False, True])
@pytest.mark.parametrize("cut_ends", [False, True])
@pytest.mark.parametrize("length", [2, 5, 30])
def test_one_text_a_row(length: int, begin: bool, cut_ends: bool) -> None:
    """Against lists that are put together whole and then cut; and the count of those that are cut."""
    tokenizer = Tokenizer.of_words(WORDS)
    texts = tokenizer.encode(["", *random_texts(40), ""])
    ids = np.concatenate(texts).astype(np.int16)
    column = TokenColumn(Tokens(ids, np.cumsum([0, *map(len, texts)])), length, begin, cut_ends)
    chosen = np.arange(41, -1, -3)
    wholes = [[END] * begin + texts[number].tolist() + [END] for number in chosen]
    expected = [(whole + [NO] * length)[:length] for whole in wholes]
    for row, whole in zip(expected, wholes, strict=True):
        row[-1] = END if cut_ends and len(whole) > length else row[-1]
    rows = TextRows({"source": column}, chosen, tokenizer)
    assert len(rows) == len(chosen)
    for first, last in ((0, len(chosen)), (3, 9), (4, 4)):
        found = rows.read(first, last)["source"]
        assert found.tolist() == expected[first:last]
        assert found.dtype == "int16"
    few = np.array([5, 2, 2])
    assert rows.select(few).read(0, 3)["source"].tolist() == [expected[number] for number in few]
    assert column.cut(chosen) == sum(len(whole) > length for whole in wholes)
