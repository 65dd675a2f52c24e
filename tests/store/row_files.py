"""A small file of rows, written in two pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from collapse_sim.store.rowfile import RowFile, RowWriter


def row_file(path: Path, rows: int, start: int) -> RowFile:
    """Rows whose first pixel counts from `start`."""
    image = np.zeros((rows, 1, 2, 2), np.uint8)
    image[:, 0, 0, 0] = np.arange(start, start + rows)
    writer = RowWriter(path, rows, {"image": ((1, 2, 2), "uint8"), "weight": ((), "float64")})
    writer.write(rows // 2, {"image": image[rows // 2 :], "weight": np.arange(rows // 2, rows) / 8})
    writer.write(0, {"image": image[: rows // 2], "weight": np.arange(rows // 2) / 8})
    writer.close()
    return RowFile(path)
