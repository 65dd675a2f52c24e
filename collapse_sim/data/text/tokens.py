"""Texts as rows of token ids: the tokenizer that belongs to data, and conversions from texts to rows and back.

A row is [begin, t1, ..., tn, end], padded with PAD_TOKEN_ID; a truncated row has no end. Packed rows are consecutive
blocks of all texts joined, [begin] t1 ... tn [end] t1 ... tm [end] ..., without padding; if begin and end are different
tokens, each text has its own begin: [begin] t1 ... tn [end] [begin] t1 ... tm [end] ...
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

PAD_TOKEN_ID = -1  # in a row of token ids: after the end of the text
END_OF_TEXT = "<|endoftext|>"  # begins and ends texts in the vocabularies that are created here


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Converts text to token ids and back. `definition` is the JSON of the tokenizers library (a tokenizer.json)."""

    definition: str
    begin: int  # the token before a text; often the same as `end`
    end: int  # the token after a text
    pad: int  # fills batches, and is the default start token of encoder-decoders; `end` if there is no padding token

    @classmethod
    def of_words(cls, words: Sequence[str]) -> Tokenizer:
        """One token per word, words separated by spaces; END_OF_TEXT is token 0, begins and ends texts, and stands for
        any other word. For data whose words are all known, such as `grammar`."""
        import tokenizers

        vocabulary = {word: number for number, word in enumerate([END_OF_TEXT, *words])}
        backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=END_OF_TEXT))
        backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
        backend.add_special_tokens([tokenizers.AddedToken(END_OF_TEXT, special=True)])
        return cls(backend.to_str(), 0, 0, 0)

    @cached_property
    def sha256(self) -> str:
        """The hash that identifies the tokenizer in keys."""
        described = f"{self.definition}\0{self.begin}\0{self.end}\0{self.pad}"
        return hashlib.sha256(described.encode()).hexdigest()

    @cached_property
    def size(self) -> int:
        """The number of ids: the highest id plus one."""
        return max(self.vocabulary().values()) + 1

    def vocabulary(self) -> dict[str, int]:
        """The id of every token, added ones included."""
        return self._backend.get_vocab(with_added_tokens=True)

    @property
    def dtype(self) -> str:
        """The dtype of a column of ids."""
        return "int16" if self.size <= np.iinfo(np.int16).max else "int32"

    @cached_property
    def _backend(self) -> tokenizers.Tokenizer:
        import tokenizers

        backend = tokenizers.Tokenizer.from_str(self.definition)
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True  # "</s>" within a text is four characters, not a special token
        return backend

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of each text, (n,) int32, without begin and end."""
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(text.ids, np.int32) for text in encodings]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of tokens, without begin, end and padding."""
        left_out = {self.begin, self.end, self.pad, PAD_TOKEN_ID}
        tokens = [token for token in np.asarray(ids).tolist() if token not in left_out]
        return self._backend.decode(tokens, skip_special_tokens=True)

    def token(self, number: int) -> str:
        """The string of a token; "" for an id without a token, as in padded vocabularies."""
        return self._backend.id_to_token(number) or ""

    def save(self, folder: Path) -> list[Path]:
        """Write the files that transformers' AutoTokenizer reads into a folder; returns their paths."""
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
    """(n, L) ids -> n strings. Several texts in one (packed) row are separated by a line break."""
    return ["\n".join(tokenizer.decode(text) for text in texts_in(row, tokenizer)) for row in rows]


def texts_in(row: np.ndarray, tokenizer: Tokenizer) -> list[np.ndarray]:
    """(L,) ids -> the ids of each text in a row, without begin, end and padding; at least one text, maybe empty.

    The first and the last text of a packed row may be incomplete.
    """
    ids = row[row != PAD_TOKEN_ID]
    marks = np.flatnonzero((ids == tokenizer.end) | (ids == tokenizer.begin))
    parts = np.split(ids, marks)
    if tokenizer.begin != tokenizer.end:  # an end followed by a begin separates two texts only once
        begun = [len(part) > 0 and part[0] == tokenizer.begin for part in parts]
        bare = [len(part) == 1 and part[0] == tokenizer.end for part in parts]
        parts = [
            part
            for part, end, next_begins in zip(parts, bare, [*begun[1:], False], strict=True)
            if not (end and next_begins)
        ]
    texts = [part[1:] if len(part) and part[0] in (tokenizer.begin, tokenizer.end) else part for part in parts]
    ended = len(ids) > 1 and ids[-1] in (tokenizer.begin, tokenizer.end)
    if len(texts) > 1 and not len(texts[0]):
        texts = texts[1:]  # nothing before the begin of the row
    if len(texts) > 1 and ended and not len(texts[-1]):
        texts = texts[:-1]  # nothing after the end, or only the begin of a text
    return texts


def row_of(ids: np.ndarray, length: int, tokenizer: Tokenizer, *, begin: bool, cut_ends: bool) -> np.ndarray:
    """One text's tokens as a row, (length,) int32; longer texts are truncated.

    `begin`: the row starts with the token `begin` (rows of language models do, those of pairs do not). `cut_ends`: a
    truncated text still ends with `end`, as inputs of encoder-decoders do.
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
