"""Plain text: what divides a file into texts, and lines into articles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collapse_sim.data.text import text_plain
from collapse_sim.data.text.text_files import TextFiles
from collapse_sim.data.text.text_plain import articles


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
def test_what_divides_a_txt_file(
    content: str, settings: Any, texts: list[str], chunk: int, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(text_plain, "CHUNK_BYTES", chunk)
    (tmp_path / "t.txt").write_bytes(content.encode())
    source = TextFiles(train="t.txt", tokenizer="words", **settings).parts(tmp_path).train
    assert [text for (text,) in source.records("reading")] == texts


PUBLISHED = """ \n = Robert a = \n \n a b c\n = = Life = = \n \n d = e\n = f = g\n \n = Second = \n \n e f\n"""
ARTICLES = [" = Robert a = \n a b c\n = = Life = = \n d = e\n = f = g", " = Second = \n e f"]


def test_articles() -> None:
    assert list(articles(iter(PUBLISHED.split("\n")))) == ARTICLES
    assert list(articles(iter(["a", "", " = A =", " = B = ", "b"]))) == ["a", " = A =\n = B = \nb"]
    assert list(articles(iter([]))) == []
