"""Rows on disk: the safetensors format, writing in any order, and files that are damaged or no files."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

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
