"""From texts to rows: one a row or packed, what is held out, and settings that ask for what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.data.text.pairs import Pairs
from collapse_sim.data.text.text_files import TextFiles
from collapse_sim.data.text.tokens import texts_of
from tests.data.making import message_of, rows_of

from .making_texts import END, NO, WORDS, files, random_texts, unpacked, write_records, write_txt


def test_a_text_a_row(folder: Path) -> None:
    data = unpacked()
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
    data = unpacked(pack=True)
    info = data.inspect(folder)
    real, held_out = rows_of(data, folder)
    assert real["tokens"].tolist() == [[END, 1, 2, 3], [END, END, 4, END], [5, 5, 5, 5]]
    assert held_out["tokens"].tolist() == [[END, 6, END, 2]]
    assert (info.rows, info.held_out, info.packed) == (3, 1, True)


def test_a_fixed_random_choice_is_held_out_where_no_file_is_named(folder: Path) -> None:
    texts = [" ".join(WORDS[(number // 6**place) % 6] for place in range(3)) for number in range(200)]
    write_txt(folder / "train.txt", texts)
    data = unpacked(validation=None, length=8)
    info = data.inspect(folder)
    assert (info.pool, info.held_out) == (190, 10)  # 5 %
    real, held_out = (texts_of(rows["tokens"], info.text()) for rows in rows_of(data, folder))
    chosen = np.random.RandomState(0).permutation(200)[:10]
    assert held_out == [texts[number] for number in sorted(chosen)]
    assert real == [text for text in texts if text not in held_out]
    for held, count in ((0.5, 100), (3, 3)):
        assert unpacked(validation=None, held_out=held).inspect(folder).held_out == count


def test_held_out_texts_are_divided_before_they_are_packed(folder: Path) -> None:
    write_txt(folder / "train.txt", ["a a a a a"] * 9 + ["b b b b b"])
    data = unpacked(validation=None, held_out=4, pack=True, length=3)
    parts = [rows["tokens"].ravel().tolist() for rows in rows_of(data, folder)]
    assert sum(2 in part for part in parts) == 1  # the text of b
    assert data.inspect(folder).held_out == (1 + 4 * 6) // 3


@pytest.mark.parametrize("pack", [True, False])
def test_fewer_rows(pack: bool, folder: Path) -> None:
    write_txt(folder / "train.txt", random_texts(30))
    write_txt(folder / "validation.txt", random_texts(20, seed=1))
    whole = rows_of(unpacked(pack=pack), folder)
    fewer = unpacked(pack=pack, rows=5, held_out_rows=7)
    info = fewer.inspect(folder)
    assert (info.rows, info.pool, info.held_out) == (5, len(whole[0]["tokens"]), 7)
    real, held_out = rows_of(fewer, folder)
    assert np.array_equal(real["tokens"], whole[0]["tokens"])
    chosen = np.sort(np.random.RandomState(0).permutation(len(whole[1]["tokens"]))[:7])
    assert np.array_equal(held_out["tokens"], whole[1]["tokens"][chosen])


def test_what_is_empty_or_cut_is_kept_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="collapse_sim")
    unpacked().inspect(folder)
    unpacked(pack=True).inspect(folder)
    assert caplog.messages == [
        "text_files: 4 texts and 2 held out; tokens: 1 empty, 2 cut at 4",
        "text_files: 4 texts and 2 held out, 1 empty; 3 and 1 blocks of 4 tokens",
    ]


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
    assert expected in message_of(files("t.txt", **settings), folder, RecipeError)


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
        text = message_of(most, folder, RecipeError)
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
    text = message_of(files("t.txt", validation=None), folder)
    assert f"{folder}/t.txt: one text; needed: at least one to train on and one held out" in text
