"""Texts in every format of files are the same texts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from collapse_sim.data.text.text_fields import Field
from collapse_sim.data.text.text_source import Digest, TextFile, TextSource, survey
from tests.data.making import rows_of

from .making_texts import HELD_OUT, TRAIN, unpacked, write_records, write_txt


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.tsv", "t.parquet", "t.arrow", "t.feather", "t"])
def test_every_format_gives_the_same(name: str, folder: Path) -> None:
    data, expected = unpacked(), rows_of(unpacked(), folder)
    for part, texts in (("train", TRAIN), ("validation", HELD_OUT)):
        write_records(folder / part / name, number=["7"] * len(texts), story=texts)
    other = unpacked(train=f"train/{name}", validation=f"validation/{name}", field="story")
    for rows, found in zip(expected, rows_of(other, folder), strict=True):
        assert np.array_equal(rows["tokens"], found["tokens"])
    assert other.describe() == data.describe()
    assert other.inspect(folder).fingerprint == data.inspect(folder).fingerprint


def digest_of(*records: tuple[str, ...]) -> str:
    digest = Digest()
    for texts in records:
        digest.add(texts)
    return digest.hexdigest()


def test_the_digest_is_over_lengths_and_bytes() -> None:
    """So that no text can be moved across a border between two."""
    expected = hashlib.sha256()
    for text in ("é", "", "ab"):
        expected.update(len(text.encode()).to_bytes(8, "little") + text.encode())
    assert digest_of(("é", ""), ("ab",)) == expected.hexdigest()
    texts = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), ("c", "ab"), ("abc",), ("ab", "c", "")]
    assert len({digest_of(record) for record in texts}) == len(texts)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet", "arrow"])
def test_what_a_survey_finds(ending: str, tmp_path: Path) -> None:
    """The texts of all files in their order; what is only space counts as empty."""
    records = [("a", "b"), ("", "c d"), (" \n", ""), ("e", "\t"), ("f\ng", "h")]
    files = []
    for number, part in enumerate((records[:2], records[2:])):
        path = tmp_path / f"{number}.{ending}"
        write_records(path, one=[one for one, _ in part], two=[two for _, two in part])
        files.append(TextFile(path, ending))  # type: ignore[arg-type]
    source = TextSource("pairs", tuple(files), (Field("one"), Field("two")))
    assert list(source.records("reading")) == records
    found = survey(source)
    assert (found.texts, found.empty, found.sha256) == (5, [2, 2], digest_of(*records))
    turned = TextSource("pairs", tuple(files), (Field("two"), Field("one")))
    assert list(turned.records("reading")) == [(two, one) for one, two in records]
    assert survey(turned).sha256 != found.sha256


def test_an_article_may_go_on_in_the_next_file(tmp_path: Path) -> None:
    for name, text in (("a.txt", " = A = \n\nb\n"), ("b.txt", "c\n\n = D = \n")):
        write_txt(tmp_path / name, [text])
    files = tuple(TextFile(tmp_path / name, "txt") for name in ("a.txt", "b.txt"))
    source = TextSource("wikitext", files, (Field("text"),), articles=True)
    assert list(source.records("reading")) == [(" = A = \nb\nc",), (" = D = ",)]
