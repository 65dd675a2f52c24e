"""Rows on disk: the safetensors format, writing in any order, and files that are damaged or no files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from collapse_sim.core.files import read_bytes
from collapse_sim.store.rowfile import RowFile, RowWriter
from tests.odd_files import KINDS, put
from tests.store.row_files import row_file


@pytest.mark.parametrize("kind", KINDS)
def test_reading_never_waits(tmp_path, kind):
    put(kind, tmp_path / "x")
    with pytest.raises(OSError):  # noqa: PT011
        read_bytes(tmp_path / "x")
    with pytest.raises((OSError, ValueError)):
        RowFile(tmp_path / "x")


def test_a_damaged_header_of_rows_is_written_anew(tmp_path):
    """Of the right length, so that nothing but its bytes shows it."""
    path, columns = tmp_path / "rows", {"x": ((2,), "float32"), "label": ((), "int64")}
    RowWriter(path, 3, columns).close()
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"label"', b'"lacel"'))
    RowWriter(path, 3, columns).close()
    assert path.read_bytes() == content
    for damaged in (content.replace(b"[3,2]", b"[3,1]"), b"\xff" * 8 + content[8:], content[:5], b""):
        path.write_bytes(damaged)
        with pytest.raises((ValueError, KeyError)):
            RowFile(path)


def test_row_files_are_safetensors(tmp_path):
    file = row_file(tmp_path / "rows.safetensors", 11, 5)
    read = load_file(tmp_path / "rows.safetensors")
    assert set(read) == {"image", "weight"}
    for name, column in file.columns.items():
        np.testing.assert_array_equal(read[name], column)
    np.testing.assert_array_equal(file.columns["image"][:, 0, 0, 0], np.arange(5, 16))
    np.testing.assert_array_equal(file.columns["weight"], np.arange(11) / 8)


ALL = {
    "image": ((2, 3), "uint8"), "label": ((), "int64"), "a": ((4,), "int16"), "b": ((), "int32"),
    "x": ((3,), "float64"), "y": ((1, 2), "float32"), "flag": ((), "bool"),
}  # fmt: skip


def random_columns(rows: int) -> dict[str, np.ndarray]:
    dice = np.random.default_rng(rows)
    return {
        name: dice.integers(0, 2 if dtype == "bool" else 100, (rows, *shape)).astype(dtype)
        for name, (shape, dtype) in ALL.items()
    }


@pytest.mark.parametrize("rows", [0, 1, 17])
def test_ranges_in_any_order_are_what_safetensors_reads(tmp_path: Path, rows: int) -> None:
    """Columns of every type, of all lengths down to no row at all."""
    columns, path = random_columns(rows), tmp_path / "rows.safetensors"
    writer = RowWriter(path, rows, ALL)
    for first in (10, 0, 5, 15):
        writer.write(first, {name: column[first : first + 5] for name, column in columns.items() if first < rows})
    writer.close()
    read, file = load_file(path), RowFile(path)
    assert set(read) == set(file.columns) == set(ALL)
    for name, column in columns.items():
        np.testing.assert_array_equal(read[name], column)
        np.testing.assert_array_equal(file.columns[name], column)
        assert file.columns[name].dtype == column.dtype
        assert file.columns[name].flags.aligned


def test_an_unfinished_file_of_the_same_rows_is_continued_and_another_is_begun_anew(tmp_path: Path) -> None:
    path, columns = tmp_path / "rows", random_columns(6)
    writer = RowWriter(path, 6, ALL)
    writer.write(0, {name: column[:4] for name, column in columns.items()})
    writer.close()
    writer = RowWriter(path, 6, ALL)
    writer.write(4, {name: column[4:] for name, column in columns.items()})
    writer.close()
    for name, column in RowFile(path).columns.items():
        np.testing.assert_array_equal(column, columns[name])
    content = path.read_bytes()
    for other in (content[:-1], content + b"x"):  # of the same rows, cut off or longer
        path.write_bytes(other)
        RowWriter(path, 6, ALL).close()
        assert path.stat().st_size == len(content)
        assert not any(column.any() for column in RowFile(path).columns.values())
    RowWriter(path, 5, ALL).close()
    assert all(len(column) == 5 and not column.any() for column in RowFile(path).columns.values())


def test_a_file_that_safetensors_wrote_is_read_with_its_metadata_passed_over(tmp_path: Path) -> None:
    columns = random_columns(9)
    save_file(columns, tmp_path / "x", metadata={"format": "np"})
    found = RowFile(tmp_path / "x").columns
    assert set(found) == set(columns)
    for name, column in columns.items():
        np.testing.assert_array_equal(found[name], column)


def test_changes_stay_in_memory_and_released_pages_are_read_again(tmp_path: Path) -> None:
    path, columns = tmp_path / "x", random_columns(9)
    save_file(columns, path)
    before = path.read_bytes()
    file = RowFile(path)
    file.columns["x"][:] = -1.0
    assert path.read_bytes() == before
    fresh = RowFile(path)
    fresh.release()
    np.testing.assert_array_equal(fresh.columns["x"], columns["x"])
