"""Texts in every format of files are the same texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.making import rows_of

from .making_texts import (
    HELD_OUT,
    TRAIN,
    unpacked,
    write_records,
)


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
