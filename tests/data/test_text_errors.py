"""Bad texts and settings are found before any training; the message says where, what is there and what would do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from collapse_sim.data.pairs import Pairs
from collapse_sim.data.text_files import TextFiles
from collapse_sim.errors import MissingError, RecipeError
from collapse_sim.recipe.problems import validate

from .making_texts import words_folder, write_records, write_txt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    words_folder(tmp_path)
    write_txt(tmp_path / "v.txt", ["a b c d", "e"])
    return tmp_path


def files(train: str, **settings) -> TextFiles:
    return TextFiles(**{"train": train, "validation": "v.txt", "tokenizer": "words", "length": 4, **settings})


def message(data, folder: Path, error: type[Exception] = MissingError) -> str:
    with pytest.raises(error) as caught:
        data.inspect(folder)
    return str(caught.value)


LINE = b'{"text": "a"}\n'


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.txt", b"", "{place}: no text in it: it is empty"),
        ("t.txt", b" \n<|endoftext|> \n", "{place}: no text in it: it is empty"),
        ("t.txt", b"a\nb <|endoftext|>\nc \xe9t\xe9", "{place}:3: no UTF-8: 0xe9 at byte 20; save the file as UTF-8 ("),
        ("t.txt", b"\xff\xfea\0b\0", "{place}:1: no UTF-8: 0xff at byte 0"),
        ("t.jsonl", b"", "{place}: no text in it: it is empty"),
        ("t.jsonl", b"\n\n", "{place}: no text in it: it is empty"),
        ("t.jsonl", LINE * 2 + b'{"text": "\xff"}', "{place}:3: no UTF-8: 0xff at byte 10 of the line"),
        (
            "t.jsonl",
            LINE + b'\n{"text": "a"',
            "{place}:3: broken JSON: Expecting ',' delimiter at column 13; needed: one",
        ),
        ("t.jsonl", LINE + b'{"text": "a"} x', "{place}:2: broken JSON: Extra data at column 15"),
        ("t.jsonl", b"[" * 100_000, "{place}:1: broken JSON: "),
        ("t.jsonl", b'["a", "b"]', "{place}:1: found a list; needed: one JSON object a line"),
        ("t.jsonl", LINE + b'{"story": "a", "txt": 1}', "{place}:2: no field 'text', did you mean 'txt'?; there are "),
        ("t.jsonl", b'{"id": 3}', "there are id: set `data.field` to one of them"),
        ("t.jsonl", b'{"text": 3}', "{place}:1: 'text' is a number; needed: a string"),
        ("t.jsonl", LINE + b'{"text": null}', "{place}:2: 'text' is null; needed: a string"),
        ("t.jsonl", b'{"text": ["a"]}', "{place}:1: 'text' is a list; needed: a string"),
        ("t.jsonl", b'{"text": "\\ud83d"}', "{place}:1: 'text' has half a character, \\ud83d: it was cut within it"),
        ("t.parquet", b"PAR1 and no more", "{place}: not a whole Parquet file ("),
        ("t.parquet", b"", "{place}: not a whole Parquet file ("),
        ("t.arrow", b"nothing at all", "{place}: not a whole Arrow file ("),
        ("t.arrow", b"ARROW1\0\0", "{place}: not a whole Arrow file ("),
    ],
)
def test_files_that_are_not_what_they_should_be(name: str, content: bytes, expected: str, folder: Path) -> None:
    (folder / name).write_bytes(content)
    text = message(files(name), folder)
    assert expected.format(place=folder / name) in text


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_columns_that_are_not_what_they_should_be(name: str, folder: Path) -> None:
    import pyarrow as pa

    place = write_records(folder / name, text=["a"] * 1500 + [None, "b"], story=["a"] * 1502)
    assert f"{place}: row 1500 (counted from 0): 'text' is null; needed: a string" in message(files(name), folder)
    expected = f"{place}: no field 'tale'; there are text, story: set `data.field` to one of them"
    assert message(files(name, field="tale"), folder) == expected
    write_records(folder / name, text=[1, 2])
    assert message(files(name), folder) == f"{place}: 'text' is a column of int64; needed: strings"
    broken = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff"))
    write_records(folder / name, text=broken)
    if name == "t.arrow":
        assert f"{place}: row 1: no UTF-8: 0xff in 'text'" in message(files(name), folder)


def test_a_truncated_arrow_file(folder: Path) -> None:
    place = write_records(folder / "t.arrow", text=["a b c d e f"] * 50)
    place.write_bytes(place.read_bytes()[:-300])
    assert f"{place}: not a whole Arrow file (" in message(files("t.arrow"), folder)


# Files that are not there.


def test_missing_files_and_near_names(folder: Path) -> None:
    for setting in ("train", "validation"):
        data = files(**{"train": "v.txt", setting: "vv.txt"})
        text = message(data, folder)
        assert text == f"data.{setting}: no file {folder}/vv.txt: did you mean {folder}/v.txt?"
    text = message(files("books/first/one.txt"), folder)
    assert f"there is no books in {folder}, which has v.txt, words; set --data-dir or COLLAPSE_SIM_DATA" in text
    assert f"data.train: no file fits {folder}/*.jsonl" in message(files("*.jsonl"), folder)


def test_folders(folder: Path) -> None:
    write_txt(folder / "books" / "1.txt", ["a"])
    text = message(files("books"), folder)
    assert f"data.train: {folder}/books is a folder, and none that Dataset.save_to_disk made" in text
    assert "a pattern such as books/*.txt, which has 1.txt" in text
    for part in ("train", "test"):
        write_records(folder / "both" / part, text=["a"])
    (folder / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    text = message(files("both"), folder)
    assert text == f"data.train: {folder}/both holds several parts: name one of the folders in it: test, train"
    (folder / "both" / "train" / "data-00001-of-00002.arrow").unlink(missing_ok=True)
    state = json.loads((folder / "both" / "train" / "state.json").read_text())
    state["_data_files"].append({"filename": "another.arrow"})
    (folder / "both" / "train" / "state.json").write_text(json.dumps(state))
    assert "both/train lacks another.arrow: save the dataset again" in message(files("both/train"), folder)


def test_an_unknown_ending(folder: Path) -> None:
    (folder / "t.csv").write_text("a,b")
    text = message(files("t.csv"), folder, RecipeError)
    assert text.startswith("data.train: t.csv does not end in .txt, ")
    assert text.endswith("say what it is with `format`: txt, jsonl, parquet or arrow")


def test_txt_files_have_no_pairs(folder: Path) -> None:
    data = Pairs(train="v.txt", tokenizer="words")
    text = message(data, folder, RecipeError)
    assert text.startswith("data.train: v.txt is a txt file, which has no pairs; needed: JSONL, Parquet or Arrow")


def test_an_unknown_tokenizer(folder: Path) -> None:
    text = message(files("v.txt", validation=None, held_out=1, tokenizer="/no/where"), folder)
    assert text.startswith("data.tokenizer: /no/where: no such tokenizer: there is no folder /no/where")


# Settings that ask for what is not there.


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"rows": 9}, "data.rows: 9 asked for, but there are 3 real rows: lower it or leave it out"),
        ({"rows": 9, "pack": False}, "data.rows: 9 asked for, but there are 3 real rows"),
        ({"held_out_rows": 4}, "data.held_out_rows: 4 asked for, but there are 2 held-out rows"),
        (
            {"length": 9},
            "data.length: the held-out texts have 8 tokens, ends of texts included, fewer than one block of 9",
        ),
        (
            {"length": 99},
            "data.length: the real texts have 13 tokens, ends of texts included, fewer than one block of 99",
        ),
        ({"validation": "t.txt"}, "data.validation: the same texts as `train`, so nothing is held out"),
        ({"validation": None, "held_out": 3}, "data.held_out: 3 of 3 texts leaves none to train on: set at most 2"),
    ],
)
def test_more_than_there_is(settings: dict[str, Any], expected: str, folder: Path) -> None:
    write_txt(folder / "t.txt", ["a b c", "d", "e f a b c"])
    assert expected in message(files("t.txt", **settings), folder, RecipeError)


def test_one_text_cannot_be_divided(folder: Path) -> None:
    (folder / "t.txt").write_text("a b c")
    text = message(files("t.txt", validation=None), folder)
    assert f"{folder}/t.txt: one text; needed: at least one to train on and one held out" in text


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"validation": "v.txt", "held_out": 0.1}, "`held_out` takes texts from `train`"),
        ({"held_out": 1.5}, "1.5 is no share between 0 and 1"),
        ({"length": 1}, "greater than or equal to 2"),
        ({"train": ()}, "at least 1"),
        ({"tokenizer": ""}, "at least 1"),
    ],
)
def test_settings(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        TextFiles(**{"train": "t.txt", "tokenizer": "words", **settings})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"tokenizer": {"bpe": 100}}, [(("tokenizer", "bpe"), "found 100; allowed: at least 257")]),
        ({"tokenizer": {"bqe": 300}}, [(("tokenizer", "bpe"), "missing; it has no default")]),
        ({"tokenizer": 3}, [(("tokenizer",), "found 3; allowed: text, or a mapping")]),
        ({}, [(("tokenizer",), "missing; it has no default")]),
    ],
)
def test_the_tokenizer_of_a_recipe(settings: dict[str, Any], expected: list[Any]) -> None:
    _, complaints = validate(TextFiles, {"train": "t.txt", **settings})
    assert expected[0] in complaints
    instance, complaints = validate(TextFiles, {"train": ["t.txt", "u.txt"], "tokenizer": {"bpe": 300}})
    assert complaints == []
    assert instance.train == ("t.txt", "u.txt")
