"""Pieces of long texts have the tokens of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from collapse_sim.data.text import long_texts
from collapse_sim.data.text.text_files import TextFiles
from collapse_sim.data.text.tokens import Tokenizer

from .making_texts import LINES, MAKERS, named, write_txt


@pytest.mark.parametrize("name", MAKERS)
def test_pieces_of_a_long_text_have_its_tokens(
    name: str, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MAKERS[name](folder / name)
    tokenizer = named(name, folder)
    draws = np.random.default_rng(0)
    words = [word for line in LINES for word in line.split(" ") if word or name != "t5"]
    long = [" ".join(draws.choice(words, 600)), "\n".join(draws.choice(words, 300)), "x" * 900]
    expected = [ids.tolist() for ids in tokenizer.encode(["a", *long, "", "b"])]
    monkeypatch.setattr(long_texts, "LONG", 100)
    encoded: list[int] = []
    encode = Tokenizer.encode

    def counting(self: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
        encoded.extend(map(len, texts))
        return encode(self, texts)

    monkeypatch.setattr(Tokenizer, "encode", counting)
    found = long_texts.encode(["a", *long, "", "b"], tokenizer)
    assert [ids.tolist() for ids in found] == expected
    whole = 2 if name == "llama" else 1  # the one without spaces; Llama's also needs spaces and not line breaks
    assert sum(length > 400 for length in encoded) == whole


def test_byte_pairs_learned_from_pieces_are_those_of_the_whole(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = TextFiles(train="t.txt", validation="v.txt", tokenizer={"bpe": 320}, length=8)
    write_txt(folder / "t.txt", [" ".join(LINES * 20)])
    before = data.inspect(folder).fingerprint
    monkeypatch.setattr(long_texts, "LONG", 50)
    monkeypatch.setenv("COLLAPSE_SIM_CACHE", str(folder / "another"))
    assert data.inspect(folder).fingerprint == before
