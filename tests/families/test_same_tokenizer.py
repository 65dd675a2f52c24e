"""Tokenizers that give the same tokens, and those that do not."""

from __future__ import annotations

import json

import pytest

from collapse_sim.data.text.tokens import Tokenizer
from collapse_sim.families.same_tokenizer import tokenizer_differences

WORDS = [f"w{i}" for i in range(5)]
OURS = Tokenizer.of_words(WORDS)


def redefined(tokenizer: Tokenizer, **parts: object) -> Tokenizer:
    definition = json.loads(tokenizer.definition) | parts
    return Tokenizer(json.dumps(definition), tokenizer.begin, tokenizer.end, tokenizer.pad)


def test_the_same_words() -> None:
    assert list(tokenizer_differences(Tokenizer.of_words(WORDS), OURS)) == []
    padded = Tokenizer(OURS.definition, OURS.begin, OURS.end, 3)
    padding = {"strategy": "BatchLongest", "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "w0"}
    assert list(tokenizer_differences(redefined(padded, padding=padding | {"pad_to_multiple_of": None}), OURS)) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*WORDS, "more"], "the model's has 7 tokens, the data's 6; 6 are in both, 0 of them with other ids"),
        (WORDS[::-1], "the model's has 6 tokens, the data's 6; 6 are in both, 4 of them with other ids"),
        (["x"], "the model's has 2 tokens, the data's 6; 1 are in both, 0 of them"),
    ],
)
def test_other_words(words: list[str], message: str) -> None:
    (line,) = tokenizer_differences(Tokenizer.of_words(words), OURS)
    assert message in line
    assert "set the data's `tokenizer` to the model's" in line


def test_texts_that_are_divided_in_another_way() -> None:
    (line,) = tokenizer_differences(redefined(OURS, normalizer={"type": "Lowercase"}), OURS)
    assert "have the same 6 tokens, but divide texts in other ways (normalizer)" in line


def test_texts_that_end_otherwise() -> None:
    lines = list(tokenizer_differences(Tokenizer(OURS.definition, 1, 2, 0), OURS))
    assert lines == [
        "tokenizer: texts begin with the token 1 ('w0') in the model's, with 0 ('<|endoftext|>') in the data's",
        "tokenizer: texts end with the token 2 ('w1') in the model's, with 0 ('<|endoftext|>') in the data's",
    ]
