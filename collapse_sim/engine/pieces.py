"""Rows made piece by piece into one file, continued where a kill left off."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from collapse_sim.engine.work import Work
from collapse_sim.store.files import explained, write_atomic
from collapse_sim.store.jobs import Job
from collapse_sim.store.rowfile import RowFile, RowWriter
from collapse_sim.store.store import boundary

Make = Callable[[int, int, int], Mapping[str, np.ndarray]]  # (piece, first row, row after the last) -> columns


def in_pieces(job: Job, target: Path, work: Work, rows: int, size: int, make: Make) -> None:
    """Make `rows` rows, `size` at a time, into the row file `target`. Resuming repeats at most one piece."""
    partial = work.store.partial(job)
    with explained(partial):
        partial.mkdir(parents=True, exist_ok=True)
    progress_file, rows_file = partial / "shards.json", partial / target.name
    bounds = [(first, min(first + size, rows)) for first in range(0, rows, size)]
    hashes = _finished(progress_file, rows_file, bounds)
    writer: RowWriter | None = None
    work.restart_clock()
    rows_seen = 0
    for piece in range(len(hashes), len(bounds)):
        first, last = bounds[piece]
        columns = make(piece, first, last)
        writer = writer or RowWriter(rows_file, rows, layout(columns))
        writer.write(first, columns)
        boundary("shard")
        hashes.append(_hash(columns))
        rows_seen += last - first
        if piece + 1 < len(bounds):
            write_atomic(progress_file, json.dumps(hashes), durable=False)
            boundary("shard recorded")
            work.stop.check()
        if work.due():
            work.report(job, last, rows, "rows", rows_seen)
            rows_seen = 0
    if writer:
        writer.close()
    rows_file.replace(target)


def _finished(progress_file: Path, rows_file: Path, bounds: list[tuple[int, int]]) -> list[str]:
    """Hashes of the pieces that are already in the file, up to the first one that isn't what it should be."""
    try:
        recorded = json.loads(progress_file.read_text(encoding="utf-8"))
        columns = RowFile(rows_file).columns
    except (OSError, ValueError, KeyError):
        return []
    good: list[str] = []
    for text, (first, last) in zip(recorded, bounds, strict=False):
        if _hash({name: column[first:last] for name, column in columns.items()}) != text:
            break
        good.append(text)
    return good


def _hash(columns: Mapping[str, np.ndarray]) -> str:
    """sha256 over the columns' bytes, by name."""
    total = hashlib.sha256()
    for name in sorted(columns):
        total.update(np.ascontiguousarray(columns[name]).data)
    return total.hexdigest()


def layout(columns: Mapping[str, np.ndarray]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape of a row and dtype, by column."""
    return {name: (column.shape[1:], str(column.dtype)) for name, column in columns.items()}
