"""Bytes of text files: gzip, other encodings, and where a byte lies."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from tests.data.making import rows_of

from .making_texts import (
    TRAIN,
    unpacked,
    write_records,
    write_txt,
)


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
    expected = rows_of(unpacked(train=str(plain)), folder)[0]["tokens"]
    for other in packed, named:
        assert np.array_equal(rows_of(unpacked(train=str(other)), folder)[0]["tokens"], expected)
