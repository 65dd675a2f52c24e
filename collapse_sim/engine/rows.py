"""The rows that a fit reads: several generations' rows as one table, gathered by index without a joint copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from collapse_sim.core.machine import Device
from collapse_sim.store.rowfile import RowFile

# Reading a row also maps its neighbours (read-ahead: some 300 KB were observed); after this many rows the pages are
# released, so that memory stays flat however many generations a fit reads from.
RELEASE_ROWS = 64
PIECE_BYTES = 2**26  # rows move to the device in pieces of this size, through pinned memory, which is never released


@dataclass(frozen=True)
class TablePart:
    """Rows of one file: row i of the part is the file's row order[first + i] (`order` None: first + i)."""

    file: RowFile
    columns: Mapping[str, np.ndarray]
    rows: int
    first: int = 0
    order: np.ndarray | None = None

    def local(self, index: np.ndarray) -> np.ndarray:
        index = index + self.first
        return index if self.order is None else self.order[index]


class Table:
    """All parts as one table of `len(table)` rows; `pick` (budgeted strategies) selects and orders some of them."""

    def __init__(self, parts: Sequence[TablePart], device: Device, pick: np.ndarray | None = None) -> None:
        self._parts = parts
        self._device = device
        self._ends = np.cumsum([part.rows for part in parts])
        self._pick = pick
        self.columns = tuple(name for name in parts[0].columns if all(name in part.columns for part in parts))
        self._rows = int(self._ends[-1]) if pick is None else len(pick)
        row_bytes = sum(parts[0].columns[name][:1].nbytes for name in self.columns)
        self._resident: dict[str, Tensor] | None = None
        self._reader: ThreadPoolExecutor | None = None
        self._ahead: tuple[Tensor, Future[dict[str, Tensor]]] | None = None
        if self._rows * row_bytes <= device.resident_bytes():
            self._resident = self._held(max(1, PIECE_BYTES // max(1, row_bytes)))

    def __len__(self) -> int:
        return self._rows

    def gather(self, index: Tensor) -> dict[str, Tensor]:
        """Rows `index` ((n,) int64 on the CPU) of every column, on the device."""
        if self._resident is not None:
            index = self._device.put(index)
            return {name: column.index_select(0, index) for name, column in self._resident.items()}
        ahead, self._ahead = self._ahead, None
        if ahead is not None and torch.equal(ahead[0], index):
            return ahead[1].result()
        return self._moved(index)

    def prefetch(self, index: Tensor) -> None:
        """Begin to read the rows that the next `gather` will be asked for, where that saves time."""
        if self._resident is None and self._device.reads_ahead:
            self._reader = self._reader or ThreadPoolExecutor(1, "rows")
            self._ahead = index, self._reader.submit(self._moved, index)

    def _moved(self, index: Tensor) -> dict[str, Tensor]:
        return {name: self._device.put(column) for name, column in self._read(index.numpy()).items()}

    def _held(self, rows: int) -> dict[str, Tensor]:
        """All rows on the device, moved there `rows` at a time."""
        held: dict[str, Tensor] = {}
        for first in range(0, max(1, self._rows), rows):
            for name, piece in self._read(np.arange(first, min(first + rows, self._rows))).items():
                if name not in held:
                    held[name] = torch.empty(
                        self._rows, *piece.shape[1:], dtype=piece.dtype, device=self._device.device
                    )
                held[name][first : first + len(piece)] = self._device.put(piece)
        return held

    def _read(self, index: np.ndarray) -> dict[str, Tensor]:
        if self._pick is not None:
            index = self._pick[index]
        part_of = np.searchsorted(self._ends, index, side="right")
        out = {
            name: np.empty((len(index), *self._parts[0].columns[name].shape[1:]), self._parts[0].columns[name].dtype)
            for name in self.columns
        }
        touched = 0
        for number in np.unique(part_of):
            part = self._parts[number]
            mine = np.flatnonzero(part_of == number)
            local = part.local(index[mine] - (self._ends[number] - part.rows))
            for piece in range(0, len(mine), RELEASE_ROWS):
                rows = slice(piece, piece + RELEASE_ROWS)
                for name in self.columns:
                    out[name][mine[rows]] = part.columns[name][local[rows]]
                touched += len(local[rows])
                if touched >= RELEASE_ROWS:
                    self._release()
                    touched = 0
        self._release()
        return {name: torch.from_numpy(column) for name, column in out.items()}

    def _release(self) -> None:
        for part in self._parts:
            part.file.release()
