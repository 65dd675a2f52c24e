"""Long texts are tokenised piece by piece: a tokenizer needs two hundred bytes of memory for every byte of a text.

Pieces are cut at single spaces or line breaks where the tokenizer divides too: with some characters on both sides, the
tokens of the whole are those of its halves. GPT-2's give the space to the second half, T5's and Llama's to neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from collapse_sim.data.text.tokens import Tokenizer

LONG = 1 << 16  # characters of a piece, and of a text that is not cut
WINDOW = 64  # characters on both sides of a cut that are looked at
TRIES = 64  # places looked at for one cut; where none will do, the rest of the text is one piece
TOGETHER = 16  # pieces tokenised at a time

SPACE = re.compile(r"(?<=\S)\s(?=\S)")


def encode(texts: Sequence[str], tokenizer: Tokenizer) -> list[np.ndarray]:
    """The tokens of every text, (n,) int32, as Tokenizer.encode gives them."""
    short = iter(tokenizer.encode([text for text in texts if len(text) <= LONG]))
    return [next(short) if len(text) <= LONG else _encode_long(text, tokenizer) for text in texts]


def _encode_long(text: str, tokenizer: Tokenizer) -> np.ndarray:
    pieces = _pieces(text, tokenizer)
    found: list[np.ndarray] = []
    while some := list(islice(pieces, TOGETHER)):
        found += tokenizer.encode(some)
    return np.concatenate(found)


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


def _cut(text: str, place: int, tokenizer: Tokenizer) -> tuple[int, int] | None:
    """(end of a piece, begin of the next), near a place in the text."""
    for match in islice(SPACE.finditer(text, place), TRIES):
        end = match.start()
        left, right = text[end - WINDOW : end], text[end + 1 : end + 1 + WINDOW]
        whole, first, kept, dropped = tokenizer.encode([left + match[0] + right, left, match[0] + right, right])
        for second, begin in ((kept, end), (dropped, end + 1)):
            if np.array_equal(whole, np.concatenate([first, second])):
                return end, begin
    return None


def words(texts: Iterator[str]) -> Iterator[str]:
    """The same words in shorter texts, for learning byte pairs, whose words begin with their space."""
    for text in texts:
        start = 0
        while len(text) - start > LONG and (match := SPACE.search(text, start + LONG)):
            yield text[start : match.start()]
            start = match.start()
        yield text[start:]
