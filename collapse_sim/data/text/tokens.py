"""Texts as rows of token ids: the tokenizer that data brings along, and the way from texts to rows and back.

A row is [begin, t1, ..., tn, end], padded with PAD_TOKEN_ID; a row that is cut has no end. Packed rows are consecutive
blocks of all texts joined, [begin] t1 ... tn [end] t1 ... tm [end] ..., without padding; where begin and end are
different tokens, every text has its own begin: [begin] t1 ... tn [end] [begin] t1 ... tm [end] ...
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tokenizers

PAD_TOKEN_ID = -1  # in a row of token ids: the text has ended before
END_OF_TEXT = "<|endoftext|>"  # begins and ends texts in the vocabularies that are made here


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Words to numbers and back. `definition` is the JSON of the tokenizers library (a file tokenizer.json)."""

    definition: str
    begin: int  # the token before the first of a text; often `end`
    end: int  # the token after the last
    pad: int  # what fills batches, and begins an encoder-decoder unless it says so; `end` where there is none

    @classmethod
    def of_words(cls, words: Sequence[str]) -> Tokenizer:
        """One token a word, words divided by spaces; END_OF_TEXT is token 0, begins and ends texts, and stands for any
        other word. For worlds whose words are all known, such as the data `grammar`."""
        import tokenizers

        vocabulary = {word: number for number, word in enumerate([END_OF_TEXT, *words])}
        made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=END_OF_TEXT))
        made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
        made.add_special_tokens([tokenizers.AddedToken(END_OF_TEXT, special=True)])
        return cls(made.to_str(), 0, 0, 0)

    @cached_property
    def sha256(self) -> str:
        """What it is known by in keys."""
        described = f"{self.definition}\0{self.begin}\0{self.end}\0{self.pad}"
        return hashlib.sha256(described.encode()).hexdigest()

    @cached_property
    def size(self) -> int:
        """How many ids there are: the highest and one."""
        return max(self._made.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def dtype(self) -> str:
        """Of a column of ids."""
        return "int16" if self.size <= np.iinfo(np.int16).max else "int32"

    @cached_property
    def _made(self) -> tokenizers.Tokenizer:
        import tokenizers

        made = tokenizers.Tokenizer.from_str(self.definition)
        made.no_truncation()
        made.no_padding()
        made.encode_special_tokens = True  # "</s>" within a text is four characters: only we end texts
        return made

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of every text, (n,) int32, without begin and end."""
        found = self._made.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(text.ids, np.int32) for text in found]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of tokens; begin, end and padding are left out."""
        left_out = {self.begin, self.end, self.pad, PAD_TOKEN_ID}
        kept = [token for token in np.asarray(ids).tolist() if token not in left_out]
        return self._made.decode(kept, skip_special_tokens=True)

    def token(self, number: int) -> str:
        """What a token is called; "" for a number without a token, as padded vocabularies have."""
        return self._made.id_to_token(number) or ""

    def save(self, folder: Path) -> list[Path]:
        """Write what transformers' AutoTokenizer reads into a folder."""
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self.token(self.begin),
            "eos_token": self.token(self.end),
            "pad_token": self.token(self.pad),
            "clean_up_tokenization_spaces": False,
        }
        paths = [folder / "tokenizer.json", folder / "tokenizer_config.json"]
        paths[0].write_text(self.definition, encoding="utf-8")
        paths[1].write_text(json.dumps(config, indent=1), encoding="utf-8")
        return paths


def texts_of(rows: np.ndarray, tokenizer: Tokenizer) -> list[str]:
    """(n, L) ids -> n strings. A row that holds several texts (packed) has them divided by a line break."""
    return ["\n".join(tokenizer.decode(text) for text in texts_in(row, tokenizer)) for row in rows]


def texts_in(row: np.ndarray, tokenizer: Tokenizer) -> list[np.ndarray]:
    """(L,) ids -> the ids of every text in a row, without begin, end and padding; at least one, which may be empty.

    The first and the last text of a packed row may be parts of texts.
    """
    ids = row[row != PAD_TOKEN_ID]
    marks = np.flatnonzero((ids == tokenizer.end) | (ids == tokenizer.begin))
    parts = np.split(ids, marks)
    if tokenizer.begin != tokenizer.end:  # the end of a text and the begin of the next divide them once
        begun = [len(part) > 0 and part[0] == tokenizer.begin for part in parts]
        bare = [len(part) == 1 and part[0] == tokenizer.end for part in parts]
        parts = [part for part, end, then in zip(parts, bare, [*begun[1:], False], strict=True) if not (end and then)]
    texts = [part[1:] if len(part) and part[0] in (tokenizer.begin, tokenizer.end) else part for part in parts]
    ended = len(ids) > 1 and ids[-1] in (tokenizer.begin, tokenizer.end)
    if len(texts) > 1 and not len(texts[0]):
        texts = texts[1:]  # before a row's begin
    if len(texts) > 1 and ended and not len(texts[-1]):
        texts = texts[:-1]  # after its end, or a text of which only the begin is here
    return texts


def row_of(ids: np.ndarray, length: int, tokenizer: Tokenizer, *, begin: bool, cut_ends: bool) -> np.ndarray:
    """One text's tokens as a row, (length,) int32; what is longer is cut.

    `begin`: it starts with the token `begin` (rows of a language model; those of pairs don't). `cut_ends`: a text that
    is cut ends with `end` all the same, as inputs of encoder-decoders do.
    """
    row = np.full(length, PAD_TOKEN_ID, np.int32)
    first = int(begin)
    if begin:
        row[0] = tokenizer.begin
    room = length - first
    if len(ids) < room:
        row[first : first + len(ids)] = ids
        row[first + len(ids)] = tokenizer.end
    else:
        row[first:] = ids[:room]
        if cut_ends:
            row[-1] = tokenizer.end
    return row
