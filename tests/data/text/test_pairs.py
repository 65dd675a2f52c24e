"""Pairs of texts: source and target as rows, cut with their end, by any tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.data.text.pairs import Pairs
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, texts_of
from tests.data.making import message_of, rows_of

from .making_texts import END, LINES, NO, t5_like, words_folder, write_records, write_txt


def pairs(**settings: Any) -> Pairs:
    given = {"train": "train.jsonl", "validation": "validation.jsonl", "tokenizer": "words"}
    return Pairs(**{**given, "source_length": 5, "target_length": 3, **settings})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    words_folder(tmp_path)
    write_records(tmp_path / "train.jsonl", source=["a b c", "a a a a a a", ""], target=["f", "", "f e d c"])
    write_records(tmp_path / "validation.jsonl", source=["c"], target=["d"])
    return tmp_path


def test_rows_end_and_what_is_cut_ends_too(folder: Path) -> None:
    data = pairs()
    info = data.inspect(folder)
    real, held_out = rows_of(data, folder)
    assert real["source"].tolist() == [[1, 2, 3, END, NO], [1, 1, 1, 1, END], [END, NO, NO, NO, NO]]
    assert real["target"].tolist() == [[6, END, NO], [END, NO, NO], [6, 5, END]]
    assert (held_out["source"].tolist(), held_out["target"].tolist()) == ([[3, END, NO, NO, NO]], [[4, END, NO]])
    assert info.columns == {"source": ((5,), "int16"), "target": ((3,), "int16")}
    assert (info.kind, info.rows, info.held_out, info.packed) == ("pairs", 3, 1, False)


def test_a_prefix_is_before_every_source(folder: Path) -> None:
    plain, prefixed = pairs(), pairs(prefix="d ")
    real, _ = rows_of(prefixed, folder)
    assert real["source"].tolist() == [[4, 1, 2, 3, END], [4, 1, 1, 1, END], [4, END, NO, NO, NO]]
    assert np.array_equal(real["target"], rows_of(plain, folder)[0]["target"])
    assert plain.describe() != prefixed.describe()


def test_fields_are_named(folder: Path) -> None:
    for part in ("train", "validation"):
        name = folder / f"{part}.parquet"
        write_records(name, id=["1"], highlights=["d"], article=["a b" if part == "train" else "c"])
    data = pairs(train="train.parquet", validation="validation.parquet", source="article", target="highlights")
    real, _ = rows_of(data, folder)
    assert (real["source"].tolist(), real["target"].tolist()) == ([[1, 2, END, NO, NO]], [[4, END, NO]])


def test_what_is_cut_is_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="collapse_sim")
    pairs().inspect(folder)
    assert caplog.messages == [
        "pairs: 3 texts and 1 held out; source: 1 empty, 1 cut at 5; target: 1 empty, 1 cut at 3"
    ]


def test_rows_are_what_transformers_makes(tmp_path: Path) -> None:
    """With T5's way of encoding: its own cut, its own end, padded where ours have PAD_TOKEN_ID."""
    from transformers import AutoTokenizer

    place = t5_like(tmp_path / "t5")
    write_records(tmp_path / "train.jsonl", source=LINES, target=LINES[::-1])
    data = pairs(validation=None, held_out=1, tokenizer="t5", prefix="summarize: ", source_length=12, target_length=6)
    tokenizer = data.inspect(tmp_path).text()
    assert (tokenizer.begin, tokenizer.end, tokenizer.pad) == (1, 1, 0)
    theirs = AutoTokenizer.from_pretrained(place)
    held = int(np.random.RandomState(0).permutation(len(LINES))[0])
    for column, texts, length in (
        ("source", [f"summarize: {line}" for line in LINES], 12),
        ("target", LINES[::-1], 6),
    ):
        expected = theirs(texts, max_length=length, truncation=True, padding="max_length")
        rows = np.where(np.array(expected["attention_mask"]) == 1, np.array(expected["input_ids"]), PAD_TOKEN_ID)
        real, held_out = (part[column] for part in rows_of(data, tmp_path))
        assert np.array_equal(real, np.delete(rows, held, axis=0))
        assert np.array_equal(held_out, rows[[held]])
    assert texts_of(rows_of(data, tmp_path)[0]["target"][:1], tokenizer) == ["x"]


def test_txt_files_have_no_pairs(folder: Path) -> None:
    write_txt(folder / "v.txt", ["a b c d", "e"])
    data = Pairs(train="v.txt", tokenizer="words")
    text = message_of(data, folder, RecipeError)
    assert text.startswith("data.train: v.txt is a txt file, which cannot contain pairs; needed: JSONL, CSV, TSV, ")
