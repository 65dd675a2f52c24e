"""Rows of texts: what is in the files, in the format of data/text/tokens.py, in every format of files."""

from __future__ import annotations

import csv
import gzip
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from collapse_sim.data.text import text_places, text_plain
from collapse_sim.data.text.text_files import TextFiles
from collapse_sim.data.text.text_rows import PackedRows, Stream
from collapse_sim.data.text.text_tokens import Tokens
from collapse_sim.data.text.tokens import PAD_TOKEN_ID, Tokenizer, texts_in, texts_of

from .making import rows_of
from .making_texts import END, END_OF_TEXT, WORDS, random_texts, words_folder, write_records, write_txt

TEXTS = ["a b c", "", "d", "e e e e e", "f", "b a"]
TRAIN, HELD_OUT = TEXTS[:4], TEXTS[4:]
NO = PAD_TOKEN_ID


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    words_folder(tmp_path)
    write_txt(tmp_path / "train.txt", TRAIN)
    write_txt(tmp_path / "validation.txt", HELD_OUT)
    return tmp_path


def files(**settings) -> TextFiles:
    given = {"train": "train.txt", "validation": "validation.txt", "tokenizer": "words", "length": 4, "pack": False}
    return TextFiles(**{**given, **settings})


def test_a_text_a_row(folder: Path) -> None:
    data = files()
    info = data.inspect(folder)
    real, held_out = rows_of(data, folder)
    assert real["tokens"].tolist() == [[END, 1, 2, 3], [END, END, NO, NO], [END, 4, END, NO], [END, 5, 5, 5]]
    assert held_out["tokens"].tolist() == [[END, 6, END, NO], [END, 2, 1, END]]
    assert (info.kind, info.rows, info.pool, info.held_out, info.packed) == ("text", 4, 4, 2, False)
    assert info.columns == {"tokens": ((4,), "int16")}
    assert real["tokens"].dtype == "int16"
    assert info.text().size == 7
    assert texts_of(real["tokens"], info.text()) == ["a b c", "", "d", "e e e"]


def test_packed(folder: Path) -> None:
    """One begin, then every text and its end; what is left over makes no row."""
    data = files(pack=True)
    info = data.inspect(folder)
    real, held_out = rows_of(data, folder)
    assert real["tokens"].tolist() == [[END, 1, 2, 3], [END, END, 4, END], [5, 5, 5, 5]]
    assert held_out["tokens"].tolist() == [[END, 6, END, 2]]
    assert (info.rows, info.held_out, info.packed) == (3, 1, True)


@pytest.mark.parametrize("begin", [0, 1])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 50])
def test_packed_rows_are_blocks_of_all_texts_joined(begin: int, length: int) -> None:
    """However they are read, with a begin that is the end or another token; and they fall into the texts again."""
    tokenizer = replace(Tokenizer.of_words(["<s>", *WORDS]), begin=begin)
    texts = [ids.astype(np.int16) for ids in tokenizer.encode(["", *random_texts(40), "", ""])]
    tokens = Tokens(np.concatenate(texts), np.cumsum([0, *map(len, texts)]))
    chosen = np.arange(0, len(texts), 2)
    joined = [begin]
    for place, number in enumerate(chosen):
        joined += [begin] * (place > 0 and begin != END) + texts[number].tolist() + [END]
    rows = PackedRows(Stream(tokens, chosen, tokenizer), length)
    blocks = np.array(joined[: len(joined) // length * length], np.int16).reshape(-1, length)
    assert len(rows) == len(blocks)
    draws = np.random.default_rng(length)
    for first, last in [(0, len(rows)), (0, 0), *np.sort(draws.integers(0, len(rows) + 1, (20, 2)))]:
        found = rows.read(int(first), int(last))["tokens"]
        assert np.array_equal(found, blocks[first:last])
        assert found.dtype == "int16"
    few = np.sort(draws.permutation(len(rows))[:3])
    assert np.array_equal(rows.select(few).read(0, 3)["tokens"], blocks[few])
    again = texts_in(np.array(joined), tokenizer)
    assert [ids.tolist() for ids in again] == [texts[number].tolist() for number in chosen]


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ([1, 2, 3, 0, 1, 4, 0], [[2, 3], [4]]),
        ([2, 0, 1, 0, 1, 4], [[2], [], [4]]),  # an empty text between two
        ([0, 1, 4, 0], [[4]]),  # the end of a text in the row before
        ([2, 3, 0, 1], [[2, 3]]),  # the begin of a text in the row behind
        ([1, 0, NO], [[]]),
        ([1, 2, NO, NO], [[2]]),
        ([1], [[]]),
        ([0], [[]]),
    ],
)
def test_an_end_and_the_next_begin_divide_texts_once(row: list[int], texts: list[list[int]]) -> None:
    tokenizer = replace(Tokenizer.of_words(["<s>", *WORDS]), begin=1)
    assert [ids.tolist() for ids in texts_in(np.array(row), tokenizer)] == texts


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.tsv", "t.parquet", "t.arrow", "t.feather", "t"])
def test_every_format_gives_the_same(name: str, folder: Path) -> None:
    data, expected = files(), rows_of(files(), folder)
    for part, texts in (("train", TRAIN), ("validation", HELD_OUT)):
        write_records(folder / part / name, number=["7"] * len(texts), story=texts)
    other = files(train=f"train/{name}", validation=f"validation/{name}", field="story")
    for rows, found in zip(expected, rows_of(other, folder), strict=True):
        assert np.array_equal(rows["tokens"], found["tokens"])
    assert other.describe() == data.describe()
    assert other.inspect(folder).fingerprint == data.inspect(folder).fingerprint


@pytest.mark.parametrize(
    ("content", "settings", "texts"),
    [
        ("a b\n<|endoftext|>\nc\n", {}, ["a b", "c"]),
        ("<|endoftext|>a b<|endoftext|><|endoftext|>c<|endoftext|>\n", {}, ["a b", "", "c"]),
        ("\ufeffa\r\nb\r\n<|endoftext|>\r\nc", {}, ["a\nb", "c"]),
        ("a\n\nb c\n\n\nd\n", {"separator": "\n\n"}, ["a", "b c", "d"]),
        ("a <|endoftext|> b\n", {"separator": None}, ["a <|endoftext|> b"]),
        ("a\n<|endoftext|", {}, ["a\n<|endoftext|"]),
        ("a\r\n\r\nb c\r\n\r\n\r\nd\r\n", {"separator": "\n\n"}, ["a", "b c", "d"]),
        ("a\r\n\nb\n\r\nc\n\nd\r", {"separator": "\n\n"}, ["a", "b", "c", "d"]),
        ("a\n\nb\nc", {"separator": "\r\n\r\n"}, ["a", "b\nc"]),
        ("a\r\n---\r\nb---c", {"separator": "\n---\n"}, ["a", "b---c"]),
        ("a\n.*\nb.*c", {"separator": ".*"}, ["a", "b", "c"]),
        ("\ufeffa\n\n\ufeffb", {"separator": "\n\n"}, ["a", "b"]),
    ],
)
@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_what_divides_a_txt_file(content: str, settings, texts: list[str], chunk: int, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(text_plain, "CHUNK_BYTES", chunk)
    (tmp_path / "t.txt").write_bytes(content.encode())
    source = TextFiles(train="t.txt", tokenizer="words", **settings).parts(tmp_path).train
    assert [text for (text,) in source.records("reading")] == texts


@pytest.mark.parametrize("name", ["t.txt", "t.jsonl", "t.csv", "t.tsv"])
def test_gzip_is_read_as_it_is(name: str, folder: Path) -> None:
    """By its first bytes, whatever the file is called."""
    plain = folder / "plain" / name
    write_txt(plain, TRAIN) if name == "t.txt" else write_records(plain, text=TRAIN)
    packed = folder / "packed" / name
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    named = packed.with_name(f"{name}.gz")
    half = len(plain.read_bytes()) // 2  # two members, as gzip's own files that are put together have
    named.write_bytes(gzip.compress(plain.read_bytes()[:half]) + gzip.compress(plain.read_bytes()[half:]))
    expected = rows_of(files(train=str(plain)), folder)[0]["tokens"]
    for other in packed, named:
        assert np.array_equal(rows_of(files(train=str(other)), folder)[0]["tokens"], expected)


def test_json_lines_that_were_put_together(folder: Path) -> None:
    """Of two files that each begin with the mark of UTF-8."""
    (folder / "t.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\xef\xbb\xbf{"text": "b", "more": "text"}')
    assert rows_of(files(train="t.jsonl"), folder)[0]["tokens"][:, 1].tolist() == [1, 2]


@pytest.mark.parametrize("between", [",", "\t"])
def test_tables(between: str, folder: Path) -> None:
    """A mark at the beginning, spaces around names, empty rows, and texts with everything that has to be quoted."""
    texts = [f'a {between} "b"', "c\nd", "e\r\nf", "", "a" * 200_000]
    name = "t.csv" if between == "," else "t.tsv"
    with (folder / name).open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=between)
        writer.writerow(["id", " text "])
        for number, text in enumerate(texts):
            writer.writerow([number, text])
            file.write("\r\n")
    source = files(train=name).parts(folder).train
    assert [text for (text,) in source.records("reading")] == texts


def test_lists_and_patterns_are_read_in_order(folder: Path) -> None:
    for number, text in enumerate(["a", "b", "c"]):
        write_txt(folder / "books" / f"{number}.txt", [text])
    (folder / "books" / "._0.txt").write_text("a resource fork")
    pattern, listed = files(train="books/*.txt"), files(train=("books/2.txt", str(folder / "books" / "0.txt")))
    assert [row[1] for row in rows_of(pattern, folder)[0]["tokens"]] == [1, 2, 3]
    assert [row[1] for row in rows_of(listed, folder)[0]["tokens"]] == [3, 1]


def test_the_data_folders_own_name_is_no_pattern(tmp_path: Path) -> None:
    for name, text in (("v[12]", "a"), ("v1", "b"), ("*", "c")):
        words_folder(tmp_path / name)
        write_txt(tmp_path / name / "in" / "t.txt", [text])
        write_txt(tmp_path / name / "v.txt", ["d"])
    for folder, token in (("v[12]", 1), ("v1", 2), ("*", 3)):
        for train in ("in/*.txt", "in/t.txt", "in/[t].txt", "**/t.txt"):
            data = files(train=train, validation="v.txt")
            assert rows_of(data, tmp_path / folder)[0]["tokens"][:, 1].tolist() == [token]
    whole = files(train=f"{tmp_path}/v[12]/in/*.txt", validation="v.txt")  # there is a folder of that very name
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
        assert files(train=f"in/caf*{place.suffix}").inspect(folder).pool == 1
    (folder / "in").rename(folder / os.fsdecode(b"gbk \xc3\xa8\xe9"))
    assert files(train="gbk*/*.parquet").inspect(folder).pool == 1


def test_special_tokens_in_a_text_are_ordinary(tmp_path: Path) -> None:
    """Only we end texts: what looks like a token of the vocabulary is read and written as it is."""
    text = f"go {END_OF_TEXT} on"
    write_records(tmp_path / "t.jsonl", text=[text, "stop"])
    write_txt(tmp_path / "v.txt", ["go on"])
    data = TextFiles(train="t.jsonl", validation="v.txt", tokenizer={"bpe": 257}, pack=False)
    tokenizer = data.inspect(tmp_path).text()
    row = rows_of(data, tmp_path)[0]["tokens"][0]
    assert (row == tokenizer.end).sum() == 2
    assert texts_of(row[None], tokenizer) == [text]


# What is held out.


def test_a_fixed_random_choice_is_held_out_where_no_file_is_named(folder: Path) -> None:
    texts = [" ".join(WORDS[(number // 6**place) % 6] for place in range(3)) for number in range(200)]
    write_txt(folder / "train.txt", texts)
    data = files(validation=None, length=8)
    info = data.inspect(folder)
    assert (info.pool, info.held_out) == (190, 10)  # 5 %
    real, held_out = (texts_of(rows["tokens"], info.text()) for rows in rows_of(data, folder))
    chosen = np.random.RandomState(0).permutation(200)[:10]
    assert held_out == [texts[number] for number in sorted(chosen)]
    assert real == [text for text in texts if text not in held_out]
    for held, count in ((0.5, 100), (3, 3)):
        assert files(validation=None, held_out=held).inspect(folder).held_out == count


def test_held_out_texts_are_divided_before_they_are_packed(folder: Path) -> None:
    write_txt(folder / "train.txt", ["a a a a a"] * 9 + ["b b b b b"])
    data = files(validation=None, held_out=4, pack=True, length=3)
    parts = [rows["tokens"].ravel().tolist() for rows in rows_of(data, folder)]
    assert sum(2 in part for part in parts) == 1  # the text of b
    assert data.inspect(folder).held_out == (1 + 4 * 6) // 3


@pytest.mark.parametrize("pack", [True, False])
def test_fewer_rows(pack: bool, folder: Path) -> None:
    write_txt(folder / "train.txt", random_texts(30))
    write_txt(folder / "validation.txt", random_texts(20, seed=1))
    whole = rows_of(files(pack=pack), folder)
    fewer = files(pack=pack, rows=5, held_out_rows=7)
    info = fewer.inspect(folder)
    assert (info.rows, info.pool, info.held_out) == (5, len(whole[0]["tokens"]), 7)
    real, held_out = rows_of(fewer, folder)
    assert np.array_equal(real["tokens"], whole[0]["tokens"])
    chosen = np.sort(np.random.RandomState(0).permutation(len(whole[1]["tokens"]))[:7])
    assert np.array_equal(held_out["tokens"], whole[1]["tokens"][chosen])


# What rows are known by.


def test_the_place_is_not_in_the_key_and_the_content_is(folder: Path) -> None:
    before = files().inspect(folder).fingerprint, files().describe()
    (folder / "train.txt").rename(folder / "other.text")
    (folder / "words").rename(folder / "same")
    moved = files(train=str(folder / "other.text"), format="txt", tokenizer="same")
    assert (moved.inspect(folder).fingerprint, moved.describe()) == before
    assert not any(str(folder) in str(value) or "other" in str(value) for value in moved.describe().values())
    write_txt(folder / "other.text", [*TRAIN[:3], "e e e e f"])
    changed = moved.inspect(folder).fingerprint
    Tokenizer.of_words([*WORDS, "g"]).save(folder / "same")
    assert len({before[0], changed, moved.inspect(folder).fingerprint}) == 3
    assert files(length=5).describe() != files(length=6).describe()


def test_what_is_empty_or_cut_is_kept_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="collapse_sim")
    files().inspect(folder)
    files(pack=True).inspect(folder)
    assert caplog.messages == [
        "text_files: 4 texts and 2 held out; tokens: 1 empty, 2 cut at 4",
        "text_files: 4 texts and 2 held out, 1 empty; 3 and 1 blocks of 4 tokens",
    ]
