"""Tokenises long texts in pieces, because a tokenizer needs 200 bytes of memory per byte of text.

Texts are cut at single spaces or line breaks where the tokenizer splits too: with some characters on both sides, the
tokens of both together must be those of the halves. GPT-2 puts the space into the second half, T5 and Llama into none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from collapse_sim.data.text.tokens import Tokenizer

LONG = 1 << 16  # minimum characters of a piece, and maximum of a text that is not cut
WINDOW = 64  # characters compared on both sides of a cut
TRIES = 64  # positions tried for one cut; if none is suitable, the rest of the text is one piece
TOGETHER = 16  # pieces tokenised at a time

SPACE = re.compile(r"(?<=\S)\s(?=\S)")


def encode(texts: Sequence[str], tokenizer: Tokenizer) -> list[np.ndarray]:
    """The tokens of each text, (n,) int32, the same as from Tokenizer.encode."""
    short = iter(tokenizer.encode([text for text in texts if len(text) <= LONG]))
    return [next(short) if len(text) <= LONG else _encode_long(text, tokenizer) for text in texts]


def _encode_long(text: str, tokenizer: Tokenizer) -> np.ndarray:
    pieces = _pieces(text, tokenizer)
    ids: list[np.ndarray] = []
    while batch := list(islice(pieces, TOGETHER)):
        ids += tokenizer.encode(batch)
    return np.concatenate(ids)


def _pieces(text: str, tokenizer: Tokenizer) -> Iterator[str]:
    start = 0
    while len(text) - start > LONG:
        cut = _cut(text, start + LONG, tokenizer)
        if cut is None:
            break
        end, begin = cut
        yield text[start:end]
        start = begin
    yield text[start:]


def _cut(text: str, position: int, tokenizer: Tokenizer) -> tuple[int, int] | None:
    """(end of a piece, begin of the next), at or after `position`; None if no position is suitable."""
    for match in islice(SPACE.finditer(text, position), TRIES):
        end = match.start()
        left, right = text[end - WINDOW : end], text[end + 1 : end + 1 + WINDOW]
        joined, first, with_space, without_space = tokenizer.encode(
            [left + match[0] + right, left, match[0] + right, right]
        )
        for second, begin in ((with_space, end), (without_space, end + 1)):
            if np.array_equal(joined, np.concatenate([first, second])):
                return end, begin
    return None


def words(texts: Iterator[str]) -> Iterator[str]:
    """The same words in shorter texts, for learning byte pairs, where a word includes the space before it."""
    for text in texts:
        start = 0
        while len(text) - start > LONG and (match := SPACE.search(text, start + LONG)):
            yield text[start : match.start()]
            start = match.start()
        yield text[start:]
