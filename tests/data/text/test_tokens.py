"""From texts to token ids and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from collapse_sim.data.text.text_files import TextFiles
from collapse_sim.data.text.tokens import END_OF_TEXT, Tokenizer, row_of, texts_in, texts_of
from tests.data.making import rows_of

from .making_texts import NO, WORDS, random_texts, write_records, write_txt


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ([1, 2, 3, 0, 1, 4, 0], [[2, 3], [4]]),
        ([2, 0, 1, 0, 1, 4], [[2], [], [4]]),  # an empty text between two
        ([0, 1, 4, 0], [[4]]),  # the end of a text in the row before
        ([2, 3, 0, 1], [[2, 3]]),  # the begin of a text in the row behind
        ([1, 0, NO], [[]]),
        ([1, 2, NO, NO], [[2]]),
        ([1], [[]]),
        ([0], [[]]),
    ],
)
def test_an_end_and_the_next_begin_divide_texts_once(row: list[int], texts: list[list[int]]) -> None:
    tokenizer = replace(Tokenizer.of_words(["<s>", *WORDS]), begin=1)
    assert [ids.tolist() for ids in texts_in(np.array(row), tokenizer)] == texts


def test_special_tokens_in_a_text_are_ordinary(tmp_path: Path) -> None:
    """Only we end texts: what looks like a token of the vocabulary is read and written as it is."""
    text = f"go {END_OF_TEXT} on"
    write_records(tmp_path / "t.jsonl", text=[text, "stop"])
    write_txt(tmp_path / "v.txt", ["go on"])
    data = TextFiles(train="t.jsonl", validation="v.txt", tokenizer={"bpe": 257}, pack=False)
    tokenizer = data.inspect(tmp_path).text()
    row = rows_of(data, tmp_path)[0]["tokens"][0]
    assert (row == tokenizer.end).sum() == 2
    assert texts_of(row[None], tokenizer) == [text]


def test_a_row_is_its_text_again() -> None:
    tokenizer = Tokenizer.of_words(WORDS)
    texts = ["", *random_texts(20)]
    rows = [row_of(ids, 15, tokenizer, begin=True, cut_ends=False) for ids in tokenizer.encode(texts)]
    assert texts_of(np.stack(rows), tokenizer) == texts


@pytest.mark.parametrize("words", [5, 32_766, 32_767, 32_768])
def test_every_id_fits_into_its_column(words: int) -> None:
    tokenizer = Tokenizer.of_words([f"w{number}" for number in range(words)])
    assert tokenizer.size == words + 1
    (ids,) = tokenizer.encode([f"w0 w{words - 1} nothing"])
    assert ids.tolist() == [1, words, 0]
    assert ids.astype(tokenizer.dtype).tolist() == ids.tolist()
    assert tokenizer.decode(ids) == f"w0 w{words - 1}"
    assert (tokenizer.token(words), tokenizer.token(words + 1)) == (f"w{words - 1}", "")


def test_another_vocabulary_or_mark_is_another_tokenizer() -> None:
    tokenizer = Tokenizer.of_words(WORDS)
    others = [replace(tokenizer, begin=1), replace(tokenizer, end=1), replace(tokenizer, pad=1)]
    hashes = {made.sha256 for made in (tokenizer, *others, Tokenizer.of_words([*WORDS, "g"]))}
    assert len(hashes) == 5
    assert Tokenizer.of_words(WORDS).sha256 == tokenizer.sha256
