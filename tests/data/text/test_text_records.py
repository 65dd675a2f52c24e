"""JSON lines and tables: every text as Python's own modules read and write it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.data.making import rows_of

from .making_texts import unpacked


def test_json_lines_that_were_put_together(folder: Path) -> None:
    """Of two files that each begin with the mark of UTF-8."""
    (folder / "t.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\xef\xbb\xbf{"text": "b", "more": "text"}')
    assert rows_of(unpacked(train="t.jsonl"), folder)[0]["tokens"][:, 1].tolist() == [1, 2]


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
    source = unpacked(train=name).parts(folder).train
    assert [text for (text,) in source.records("reading")] == texts
