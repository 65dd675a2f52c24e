"""Bytes of text files: gzip, other encodings, and where a byte lies."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from collapse_sim.core.errors import MissingError
from collapse_sim.data.text.text_bytes import decoded_line, line_of, opened
from tests.data.making import rows_of

from .making_texts import TRAIN, unpacked, write_records, write_txt


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


@pytest.mark.parametrize("packed", [False, True])
def test_the_line_of_every_byte(packed: bool, tmp_path: Path) -> None:
    content = "a\n\nbé\r\nc\n".encode() * 3
    (tmp_path / "t").write_bytes(gzip.compress(content) if packed else content)
    for position in range(len(content)):
        assert line_of(tmp_path / "t", position) == content[:position].count(b"\n") + 1
    assert line_of(tmp_path / "t", 3 << 20) == content.count(b"\n") + 1  # behind the end


@pytest.mark.parametrize("packed", [False, True])
def test_the_position_is_that_in_the_file_on_disk(packed: bool, tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(97, 123, 300_000, np.uint8).tobytes()
    (tmp_path / "t").write_bytes(gzip.compress(content) if packed else content)
    with opened(tmp_path / "t") as (file, position):
        parts, positions = [], [position()]
        while part := file.read(10_000):
            parts.append(part)
            positions.append(position())
    assert b"".join(parts) == content
    assert positions == sorted(positions)
    assert positions[-1] == (tmp_path / "t").stat().st_size
    assert 0 < positions[1] < positions[-1]  # it is not read at once


def test_lines_that_are_no_text() -> None:
    assert decoded_line("f:3", "é\t \n".encode()) == "é\t \n"
    with pytest.raises(MissingError, match=r"^f:3: not UTF-8: 0xff at byte 2 of the line"):
        decoded_line("f:3", b"ab\xff")
    with pytest.raises(MissingError, match=r"^f:3: a NUL byte at byte 1 of the line"):
        decoded_line("f:3", b"a\0\xff")


def test_any_first_bytes_of_a_text_are_text(tmp_path: Path) -> None:
    """Marks of packed files begin with letters, as texts do: BZh is a name, and PK is one, too."""
    for content in (b"BZhang wrote this", b"PK and more", b"7z", b"7zip", b"", b"\xef\xbb\xbfa"):
        (tmp_path / "t").write_bytes(content)
        with opened(tmp_path / "t") as (file, _):
            assert file.read() == content
