"""Bad texts and settings are found before any training; the message says where, what is there and what would do."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.data.text.pairs import Pairs
from collapse_sim.data.text.text_files import TextFiles
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
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5\n"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.txt", b"", "{place}: empty: there are no texts in it"),
        ("t.txt", b" \n<|endoftext|> \n", "{place}: empty: there are no texts in it"),
        (
            "t.txt",
            b"a\nb <|endoftext|>\nc \xe9t\xe9",
            "{place}:3: not UTF-8: 0xe9 at byte 20; save the file as UTF-8 (",
        ),
        ("t.txt", b"\xff\xfea\0b\0", "{place}: UTF-16, by its first bytes; needed: UTF-8: iconv -f UTF-16 -t UTF-8"),
        ("t.jsonl", b"\xfe\xff\0{\0", "{place}: UTF-16, by its first bytes; needed: UTF-8: iconv -f UTF-16 -t UTF-8"),
        ("t.csv", "text\na".encode("utf-32"), "{place}: UTF-32, by its first bytes; needed: UTF-8: iconv -f UTF-32"),
        ("t.txt", b"PK\x03\x04 and more", "{place}: compressed with zip, by its first bytes: decompress it"),
        ("t.jsonl", b"\x28\xb5\x2f\xfd and more", "{place}: compressed with zstd, by its first bytes: decompress it"),
        (
            "t.txt",
            b"a\nb\0\0",
            "{place}:2: a NUL byte at byte 3, which no text has: the file was not written completely",
        ),
        ("t.txt", "a b".encode("utf-16-le"), "{place}:1: a NUL byte at byte 1, which no text has: "),
        ("t.jsonl", LINE + bytes(99), "{place}:2: a NUL byte at byte 0 of the line, which no text has: "),
        ("t.csv", b"text\na\n" + bytes(99), "{place}:3: a NUL byte at byte 0 of the line, which no text has: "),
        ("t.txt", POINTER, "{place}: a pointer of git-lfs, and not the file itself: install git-lfs and run `git lfs"),
        ("t.parquet", POINTER, "{place}: a pointer of git-lfs, and not the file itself: install git-lfs"),
        ("t.arrow", POINTER, "{place}: a pointer of git-lfs, and not the file itself: install git-lfs"),
        (
            "t.txt",
            gzip.compress(b"a b c" * 99, mtime=0)[:-9],
            "{place}: not a complete gzip file (Compressed file ended before",
        ),
        (
            "t.jsonl.gz",
            gzip.compress(LINE, mtime=0) + b"and more",
            "{place}: not a complete gzip file (Not a gzipped file",
        ),
        (
            "t.csv",
            gzip.compress(b"text\na\n", mtime=0)[:-7] + b"1234567",
            "{place}: not a complete gzip file (CRC check failed",
        ),
        ("t.csv", b"", "{place}: empty: there are no texts in it"),
        ("t.csv", b"text\n", "{place}: empty: there are no texts in it"),
        (
            "t.csv",
            b"id;body\n1;a\n",
            "{place}:1: no field 'text'; there are id;body: set `data.field` to one of them (the",
        ),
        (
            "t.tsv",
            b"text,id\na,1\n",
            "there are text,id: set `data.field` to one of them (the first row must name the ",
        ),
        ("t.csv", b"text,text\na,b\n", "{place}:1: two columns called 'text': rename one"),
        (
            "t.csv",
            b'text\n"a\nb"\n\nc,d\n',
            "{place}:5: 2 columns, but the first row names 1: a text that contains commas",
        ),
        ("t.csv", b"text,id\na\n", "{place}:2: 1 columns, but the first row names 2"),
        (
            "t.tsv",
            b'text\na\n"b" c\n',
            "{place}:3: broken quotation marks: '\t' expected after '\"'; a text that contains",
        ),
        ("t.csv", b'text\na\n"b\nc\nd\n', "{place}:3: broken quotation marks: unexpected end of data"),
        ("t.csv", b"text\na\nb\n\xe9", "{place}:4: not UTF-8: 0xe9 at byte 0 of the line"),
        (
            "t.json",
            b'[{"text": "a"}]',
            "{place}:1: found a list; needed: one JSON object per line (a JSON array is not read: ",
        ),
        ("t.json", b'[\n {"text": "a"}\n]', "jq -c '.[]' t.json > t.jsonl converts it)"),
        ("t.jsonl", LINE + b'{"text": "a", "text": "b"}', "{place}:2: two columns called 'text': rename one"),
        ("t.jsonl", b"", "{place}: empty: there are no texts in it"),
        ("t.jsonl", b"\n\n", "{place}: empty: there are no texts in it"),
        ("t.jsonl", LINE * 2 + b'{"text": "\xff"}', "{place}:3: not UTF-8: 0xff at byte 10 of the line"),
        (
            "t.jsonl",
            LINE + b'\n{"text": "a"',
            "{place}:3: broken JSON: Expecting ',' delimiter at column 13; needed: one",
        ),
        ("t.jsonl", LINE + b'{"text": "a"} x', "{place}:2: broken JSON: Extra data at column 15"),
        ("t.jsonl", b"[" * 100_000, "{place}:1: broken JSON: "),
        ("t.jsonl", LINE + b'["a", "b"]', "{place}:2: found a list; needed: one JSON object per line"),
        ("t.jsonl", LINE + b'{"story": "a", "txt": 1}', "{place}:2: no field 'text', did you mean 'txt'?; there are "),
        ("t.jsonl", b'{"id": 3}', "there are id: set `data.field` to one of them"),
        ("t.jsonl", b'{"text": 3}', "{place}:1: 'text' is a number; needed: a string"),
        ("t.jsonl", LINE + b'{"text": null}', "{place}:2: 'text' is null; needed: a string"),
        ("t.jsonl", b'{"text": ["a"]}', "{place}:1: 'text' is a list; needed: a string"),
        ("t.jsonl", b'{"text": "\\ud83d"}', "{place}:1: 'text' has half a character, \\ud83d: the text was cut there"),
        ("t.parquet", b"PAR1 and no more", "{place}: not a complete Parquet file ("),
        ("t.parquet", b"", "{place}: not a complete Parquet file ("),
        ("t.arrow", b"nothing at all", "{place}: not a complete Arrow file ("),
        ("t.arrow", b"ARROW1\0\0", "{place}: not a complete Arrow file ("),
    ],
)
def test_files_that_are_not_what_they_should_be(name: str, content: bytes, expected: str, folder: Path) -> None:
    (folder / name).write_bytes(content)
    text = message(files(name), folder)
    assert expected.format(place=folder / name) in text


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.feather"])
def test_two_columns_of_one_name(name: str, folder: Path) -> None:
    """As a join of two tables writes them. Others than the wanted one may be there twice."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array(["a", "b"]), pa.array(["c", "d"]), pa.array(["e", "f"])]
    for names, fine in ((["id", "text", "text"], False), (["id", "id", "text"], True)):
        table = pa.Table.from_arrays(columns, names=names)
        if name == "t.parquet":
            pq.write_table(table, folder / name)
        else:
            new = pa.ipc.new_stream if name == "t.arrow" else pa.ipc.new_file
            with pa.OSFile(str(folder / name), "wb") as file, new(file, table.schema) as writer:
                writer.write_table(table)
        if fine:
            assert files(name, length=2).inspect(folder).pool == 2
        else:
            assert f"{folder / name}: two columns called 'text': rename one" in message(files(name), folder)


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
        assert f"{place}: row 1: not UTF-8: 0xff in 'text'" in message(files(name), folder)


def test_a_truncated_arrow_file(folder: Path) -> None:
    place = write_records(folder / "t.arrow", text=["a b c d e f"] * 50)
    place.write_bytes(place.read_bytes()[:-300])
    assert f"{place}: not a complete Arrow file (" in message(files("t.arrow"), folder)


# Files that are not there.


def test_missing_files_and_near_names(folder: Path) -> None:
    for setting in ("train", "validation"):
        data = files(**{"train": "v.txt", setting: "vv.txt"})
        text = message(data, folder)
        assert text == f"data.{setting}: no file {folder}/vv.txt: did you mean {folder}/v.txt?"
    text = message(files("books/first/one.txt"), folder)
    assert f"there is no books in {folder}, which has v.txt, words; set --data-dir or COLLAPSE_SIM_DATA" in text
    assert f"data.train: no file matches {folder}/*.jsonl" in message(files("*.jsonl"), folder)


def test_folders(folder: Path) -> None:
    write_txt(folder / "books" / "1.txt", ["a"])
    text = message(files("books"), folder)
    assert f"data.train: {folder}/books is a folder, but not one from Dataset.save_to_disk" in text
    assert "a pattern such as books/*.txt, which has 1.txt" in text
    for part in ("train", "test"):
        write_records(folder / "both" / part, text=["a"])
    (folder / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    text = message(files("both"), folder)
    assert text == f"data.train: {folder}/both contains several parts: name one of the folders in it: test, train"
    (folder / "both" / "train" / "data-00001-of-00002.arrow").unlink(missing_ok=True)
    state = json.loads((folder / "both" / "train" / "state.json").read_text())
    state["_data_files"].append({"filename": "another.arrow"})
    (folder / "both" / "train" / "state.json").write_text(json.dumps(state))
    assert "both/train lacks another.arrow: save the dataset again" in message(files("both/train"), folder)


# What is no file. A named pipe that were opened would be waited for without end.


def fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (fifo, "a named pipe, not a file"),
        (lambda path: path.symlink_to("nowhere.txt"), "a link to a file that is not there"),
        (lambda path: path.symlink_to(path), "a loop of links"),
    ],
    ids=["pipe", "dangling", "loop"],
)
@pytest.mark.parametrize("train", ["t.txt", "t*.txt", "[t].txt", "**/t.txt", ["v2.txt", "t.txt"]])
def test_what_is_no_file(make: Any, expected: str, train: Any, folder: Path) -> None:
    write_txt(folder / "v2.txt", ["a"])
    make(folder / "t.txt")
    text = message(files(train), folder)
    assert text == f"data.train: {folder}/t.txt: {expected}: remove it, or name only the intended files"


@pytest.mark.parametrize("make", [fifo, lambda path: path.symlink_to(path), Path.mkdir], ids=["pipe", "loop", "folder"])
def test_what_is_no_file_in_a_folder_of_a_dataset(make: Any, folder: Path) -> None:
    write_records(folder / "set", text=["a", "b"])
    shard = next((folder / "set").glob("*.arrow"))
    shard.unlink()
    make(shard)
    assert f"data.train: {shard}: a " in message(files("set"), folder)
    (folder / "set" / "state.json").unlink()
    make(folder / "set" / "state.json")
    assert "is a folder, but not one from Dataset.save_to_disk" in message(files("set"), folder)


@pytest.mark.parametrize("name", ["x" * 300 + ".txt", "a\0b.txt", "x" * 300 + "*.txt"])
def test_names_that_no_file_can_have(name: str, folder: Path) -> None:
    assert message(files(name), folder).startswith("data.train: ")


def test_an_unknown_ending(folder: Path) -> None:
    (folder / "t.doc").write_text("a,b")
    text = message(files("t.doc"), folder, RecipeError)
    assert text.startswith("data.train: t.doc does not end in .txt, ")
    assert text.endswith("set `format` to txt, jsonl, csv, tsv, parquet or arrow")
    (folder / "t.parquet.gz").write_bytes(b"")
    text = message(files("t.parquet.gz"), folder, RecipeError)
    assert text == "data.train: t.parquet.gz: .parquet files cannot be read from gzip: decompress it"


def test_txt_files_have_no_pairs(folder: Path) -> None:
    data = Pairs(train="v.txt", tokenizer="words")
    text = message(data, folder, RecipeError)
    assert text.startswith("data.train: v.txt is a txt file, which cannot contain pairs; needed: JSONL, CSV, TSV, ")


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
            "data.length: the held-out texts have 8 tokens, including ends of texts, fewer than one block of 9",
        ),
        (
            {"length": 99},
            "data.length: the real texts have 13 tokens, including ends of texts, fewer than one block of 99",
        ),
        ({"validation": "same.txt"}, "data.validation: the same texts as those to train on, so nothing is held out"),
        ({"validation": None, "held_out": 3}, "data.held_out: 3 of 3 texts leaves none to train on: set at most 2"),
    ],
)
def test_more_than_there_is(settings: dict[str, Any], expected: str, folder: Path) -> None:
    for name in ("t.txt", "same.txt"):
        write_txt(folder / name, ["a b c", "d", "e f a b c"])
    assert expected in message(files("t.txt", **settings), folder, RecipeError)


def test_what_is_held_out_is_not_trained_on(folder: Path) -> None:
    """The same file, under whatever name; and the same texts in another file, if they are most of them."""
    texts = {f"{number}.txt": [f"{word} {word}" for word in "abcdef"[number:]] for number in range(3)}
    for name, found in texts.items():
        write_txt(folder / "in" / name, found)
    (folder / "in" / "link.txt").symlink_to("0.txt")
    (folder / "in" / "hard.txt").hardlink_to(folder / "in" / "1.txt")
    for train, validation, said in (
        ("in/[01].txt", "in/1.txt", f"{folder}/in/1.txt is also among the files of `train`: what"),
        ("in/*.txt", "in/1.txt", "in/hard.txt is in/1.txt, by a link"),
        ("in/0.txt", "in/link.txt", f"{folder}/in/link.txt is also among the files of `train`, as {folder}/in/0.txt"),
        ("in/1.txt", "in/hard.txt", f"{folder}/in/hard.txt is also among the files of `train`, as {folder}/in/1.txt"),
        (["in/0.txt", "in/0.txt"], "in/2.txt", f"data.train: {folder}/in/0.txt is named twice, so its texts would"),
        (["in/0.txt", "in/link.txt"], "in/2.txt", f"{folder}/in/link.txt is {folder}/in/0.txt, by a link, so its"),
        ("in/0.txt", ["in/2.txt", "in/./2.txt"], "data.validation: "),
    ):
        text = message(files(train, validation=validation), folder, RecipeError)
        assert said.replace("in/hard.txt is in/1.txt", f"{folder}/in/hard.txt is {folder}/in/1.txt") in text


@pytest.mark.parametrize("kind", ["tokens", "pairs"])
def test_held_out_texts_that_are_also_trained_on(kind: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="collapse_sim")
    trained = ["a b", "c d", "e f", "", "a"]

    def data(held: list[str], **settings: Any) -> Any:
        for name, lines in (("train.jsonl", trained), ("held.jsonl", held)):
            write_records(
                folder / name, text=lines, source=lines, target=lines[::-1] if name == "train.jsonl" else lines
            )
        given = {"train": "train.jsonl", "validation": "held.jsonl", "tokenizer": "words"}
        return TextFiles(**given, pack=False, length=4) if kind == "tokens" else Pairs(**given)

    data(["a b", "", "", "f f"]).inspect(folder)
    seen = "" if kind == "pairs" else " (1 of them also among the real texts, word for word)"
    assert (
        caplog.messages[-1].split(";")[0] == f"{'pairs' if seen == '' else 'text_files'}: 5 texts and 4 held out{seen}"
    )
    most = data(["e f", "c d", "f"])
    if kind == "tokens":
        text = message(most, folder, RecipeError)
        assert text.startswith("data.validation: 2 of 3 held-out texts are also among those to train on, word for word")
    else:  # as pairs one of them is
        most.inspect(folder)
        assert " (1 of them also among the real texts, word for word)" in caplog.messages[-1]


def test_a_text_that_is_there_many_times_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where held-out texts are chosen out of the files it is the files' own matter."""
    caplog.set_level("INFO", logger="collapse_sim")
    write_txt(folder / "t.txt", ["a b"] * 20)
    files("t.txt", validation=None, held_out=5).inspect(folder)
    assert "15 texts and 5 held out (5 of them also among the real texts, word for word)" in caplog.messages[-1]


def test_one_text_cannot_be_divided(folder: Path) -> None:
    (folder / "t.txt").write_text("a b c")
    text = message(files("t.txt", validation=None), folder)
    assert f"{folder}/t.txt: one text; needed: at least one to train on and one held out" in text


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"validation": "v.txt", "held_out": 0.1}, "`held_out` takes texts from `train`"),
        ({"held_out": 1.5}, "1.5 is not a share between 0 and 1"),
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
