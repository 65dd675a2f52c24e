"""Rows of words for tests of text metrics: a tokenizer of one token a word, and texts as rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, Tokenizer, row_of

LETTERS = Tokenizer.of_words([chr(ord("a") + i) for i in range(26)])
END = LETTERS.end


def info(
    kind: str = "text", length: int = 12, real: int = 4, held_out: int = 4, packed: bool = False, words=LETTERS
) -> Info:
    columns = {"tokens": ((length,), "int16")} if kind == "text" else {}
    if kind == "pairs":
        columns = {"source": ((length,), "int16"), "target": ((length,), "int16")}
    return Info(kind, columns, real, real, held_out, tokenizer=words, packed=packed)


def rows(texts: Sequence[str], length: int = 12, *, begin: bool = True, words: Tokenizer = LETTERS) -> Tensor:
    """Texts as rows of a language model; with begin=False as targets of pairs. "" is an empty text."""
    ids = words.encode(list(texts))
    return torch.from_numpy(np.stack([row_of(text, length, words, begin=begin, cut_ends=False) for text in ids]))


def packed(text: str, length: int) -> Tensor:
    """Words, and | where a text begins or ends, in rows of `length` tokens; what does not fill a row is left out."""
    ids = [END if word == "|" else int(LETTERS.encode([word])[0][0]) for word in text.split()]
    many = len(ids) // length
    return torch.tensor(ids[: many * length], dtype=torch.int32).reshape(many, length)


__all__ = ["END", "LETTERS", "PAD_TOKEN_ID", "info", "packed", "rows"]
