"""Where texts are found: lists, patterns, folders of datasets; and what is missing or no file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.data.text import text_places
from tests.data.making import message_of, rows_of

from .making_texts import files, unpacked, words_folder, write_records, write_txt


def test_lists_and_patterns_are_read_in_order(folder: Path) -> None:
    for number, text in enumerate(["a", "b", "c"]):
        write_txt(folder / "books" / f"{number}.txt", [text])
    (folder / "books" / "._0.txt").write_text("a resource fork")
    pattern, listed = unpacked(train="books/*.txt"), unpacked(train=("books/2.txt", str(folder / "books" / "0.txt")))
    assert [row[1] for row in rows_of(pattern, folder)[0]["tokens"]] == [1, 2, 3]
    assert [row[1] for row in rows_of(listed, folder)[0]["tokens"]] == [3, 1]


def test_the_data_folders_own_name_is_no_pattern(tmp_path: Path) -> None:
    for name, text in (("v[12]", "a"), ("v1", "b"), ("*", "c")):
        words_folder(tmp_path / name)
        write_txt(tmp_path / name / "in" / "t.txt", [text])
        write_txt(tmp_path / name / "v.txt", ["d"])
    for folder, token in (("v[12]", 1), ("v1", 2), ("*", 3)):
        for train in ("in/*.txt", "in/t.txt", "in/[t].txt", "**/t.txt"):
            data = unpacked(train=train, validation="v.txt")
            assert rows_of(data, tmp_path / folder)[0]["tokens"][:, 1].tolist() == [token]
    whole = unpacked(train=f"{tmp_path}/v[12]/in/*.txt", validation="v.txt")  # there is a folder of that very name
    assert rows_of(whole, tmp_path / "v1")[0]["tokens"][:, 1].tolist() == [1]


def test_patterns(tmp_path: Path) -> None:
    """As a shell has them: hidden files and folders are left out unless they are asked for; links are followed."""
    for name in (
        "a.txt",
        "b/a.txt",
        "b/c/a.txt",
        "b/.hidden.txt",
        ".git/a.txt",
        "b/.ipynb_checkpoints/a.txt",
        "d.txt/e",
    ):
        write_txt(tmp_path / "in" / name, [name])
    write_txt(tmp_path / "elsewhere" / "l.txt", ["linked"])
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "b" / "up").symlink_to("..")
    for pattern, expected in (
        ("*.txt", ["a.txt"]),
        ("*/*.txt", ["b/a.txt", "link/l.txt"]),
        ("**/*.txt", ["a.txt", "b/a.txt", "b/c/a.txt", "link/l.txt"]),
        ("**", ["a.txt", "b/a.txt", "b/c/a.txt", "d.txt/e", "link/l.txt"]),
        ("b/**/a.txt", ["b/a.txt", "b/c/a.txt", "b/up/a.txt"]),
        (".git/*.txt", [".git/a.txt"]),
        (".*/*.txt", [".git/a.txt"]),
        ("b/.h*", ["b/.hidden.txt"]),
        ("?/[!b]/*", ["b/c/a.txt"]),
    ):
        paths = text_places._matching(pattern, tmp_path / "in")
        assert [str(path.relative_to(tmp_path / "in")) for path in paths] == expected, pattern


def test_names_that_are_not_utf8(folder: Path) -> None:
    """As unzip leaves them from archives of Windows, in every format. A recipe is text, and has them by a pattern."""
    for name in ("t.txt", "t.jsonl", "t.csv", "t.parquet", "t.arrow", "t.feather"):
        place = folder / "in" / name
        write_txt(place, ["a"]) if name == "t.txt" else write_records(place, text=["a"])
        place.rename(place.with_name(os.fsdecode(b"caf\xe9" + place.suffix.encode())))
        assert unpacked(train=f"in/caf*{place.suffix}").inspect(folder).pool == 1
    (folder / "in").rename(folder / os.fsdecode(b"gbk \xc3\xa8\xe9"))
    assert unpacked(train="gbk*/*.parquet").inspect(folder).pool == 1


def test_missing_files_and_near_names(folder: Path) -> None:
    for name in ("train.txt", "validation.txt"):
        (folder / name).unlink()
    for setting in ("train", "validation"):
        data = files(**{"train": "v.txt", setting: "vv.txt"})
        text = message_of(data, folder)
        assert text == f"data.{setting}: no file {folder}/vv.txt: did you mean {folder}/v.txt?"
    text = message_of(files("books/first/one.txt"), folder)
    assert f"there is no books in {folder}, which has v.txt, words; set --data-dir or COLLAPSE_SIM_DATA" in text
    assert f"data.train: no file matches {folder}/*.jsonl" in message_of(files("*.jsonl"), folder)


def test_folders(folder: Path) -> None:
    write_txt(folder / "books" / "1.txt", ["a"])
    text = message_of(files("books"), folder)
    assert f"data.train: {folder}/books is a folder, but not one from Dataset.save_to_disk" in text
    assert "a pattern such as books/*.txt, which has 1.txt" in text
    for part in ("train", "test"):
        write_records(folder / "both" / part, text=["a"])
    (folder / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    text = message_of(files("both"), folder)
    assert text == f"data.train: {folder}/both contains several parts: name one of the folders in it: test, train"
    (folder / "both" / "train" / "data-00001-of-00002.arrow").unlink(missing_ok=True)
    state = json.loads((folder / "both" / "train" / "state.json").read_text())
    state["_data_files"].append({"filename": "another.arrow"})
    (folder / "both" / "train" / "state.json").write_text(json.dumps(state))
    assert "both/train lacks another.arrow: save the dataset again" in message_of(files("both/train"), folder)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (os.mkfifo, "a named pipe, not a file"),
        (lambda path: path.symlink_to("nowhere.txt"), "a link to a file that is not there"),
        (lambda path: path.symlink_to(path), "a loop of links"),
    ],
    ids=["pipe", "dangling", "loop"],
)
@pytest.mark.parametrize("train", ["t.txt", "t*.txt", "[t].txt", "**/t.txt", ["v2.txt", "t.txt"]])
def test_what_is_no_file(make: Any, expected: str, train: Any, folder: Path) -> None:
    write_txt(folder / "v2.txt", ["a"])
    make(folder / "t.txt")
    text = message_of(files(train), folder)
    assert text == f"data.train: {folder}/t.txt: {expected}: remove it, or name only the intended files"


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to(path), Path.mkdir], ids=["pipe", "loop", "folder"]
)
def test_what_is_no_file_in_a_folder_of_a_dataset(make: Any, folder: Path) -> None:
    write_records(folder / "set", text=["a", "b"])
    shard = next((folder / "set").glob("*.arrow"))
    shard.unlink()
    make(shard)
    assert f"data.train: {shard}: a " in message_of(files("set"), folder)
    (folder / "set" / "state.json").unlink()
    make(folder / "set" / "state.json")
    assert "is a folder, but not one from Dataset.save_to_disk" in message_of(files("set"), folder)


@pytest.mark.parametrize("name", ["x" * 300 + ".txt", "a\0b.txt", "x" * 300 + "*.txt"])
def test_names_that_no_file_can_have(name: str, folder: Path) -> None:
    assert message_of(files(name), folder).startswith("data.train: ")


def test_an_unknown_ending(folder: Path) -> None:
    (folder / "t.doc").write_text("a,b")
    text = message_of(files("t.doc"), folder, RecipeError)
    assert text.startswith("data.train: t.doc does not end in .txt, ")
    assert text.endswith("set `format` to txt, jsonl, csv, tsv, parquet or arrow")
    (folder / "t.parquet.gz").write_bytes(b"")
    text = message_of(files("t.parquet.gz"), folder, RecipeError)
    assert text == "data.train: t.parquet.gz: .parquet files cannot be read from gzip: decompress it"
