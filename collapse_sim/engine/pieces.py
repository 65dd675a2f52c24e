"""Rows made piece by piece into one file, resumable after a kill."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from collapse_sim.core.events import Note
from collapse_sim.core.files import explain_write_errors, write_atomic
from collapse_sim.engine.work import JobContext
from collapse_sim.store import sealed
from collapse_sim.store.jobs import Job
from collapse_sim.store.rowfile import RowFile, RowWriter
from collapse_sim.store.store import boundary

Make = Callable[[int, int, int], Mapping[str, np.ndarray]]  # (piece, first row, row after the last) -> columns


class Pieces(NamedTuple):
    """A row file `name` of `rows` rows, made `size` at a time."""

    name: str
    rows: int
    size: int
    make: Make

    def bounds(self) -> list[tuple[int, int]]:
        """(first row, row after the last) of every piece."""
        return [(first, min(first + self.size, self.rows)) for first in range(0, self.rows, self.size)]


def in_pieces(job: Job, folder: Path, context: JobContext, *files: Pieces) -> None:
    """Make row files piece by piece, one file after the other, into `folder`. Resuming repeats at most one piece.

    They stay among the job's checkpoints until all are complete. A requested stop is honoured between pieces.
    """
    partial = context.store.partial(job)
    with explain_write_errors(partial):
        partial.mkdir(parents=True, exist_ok=True)
    progress_file = partial / "shards.json"
    hashes, damage = _finished(progress_file, partial, files)
    if damage:
        context.emit(Note(f"damaged unfinished rows, remade from there: {partial} ({damage})"))
    done, total = 0, sum(file.rows for file in files)
    context.restart_clock()
    rows_seen = 0
    for file in files:
        piece_hashes = hashes.setdefault(file.name, [])
        with contextlib.ExitStack() as opened:
            writer: RowWriter | None = None
            for piece, (first, last) in enumerate(file.bounds()):
                done += last - first
                if piece < len(piece_hashes):
                    continue
                columns = file.make(piece, first, last)
                if writer is None:
                    writer = RowWriter(partial / file.name, file.rows, layout(columns))
                    opened.callback(writer.close)
                writer.write(first, columns)
                boundary("shard")
                piece_hashes.append(_hash(columns))
                rows_seen += last - first
                if done < total:
                    write_atomic(progress_file, sealed.text(hashes), durable=False)
                    boundary("shard recorded")
                    context.stop.check()
                if context.due():
                    context.report(job, done, total, "rows", rows_seen)
                    rows_seen = 0
    for file in files:
        (partial / file.name).replace(folder / file.name)


def _finished(progress_file: Path, partial: Path, files: Sequence[Pieces]) -> tuple[dict[str, list[str]], str]:
    """Hashes of the pieces already in each file, by file name, up to the first piece that is wrong.

    Also what is wrong there; "" when nothing is.
    """
    good: dict[str, list[str]] = {}
    if not os.path.lexists(progress_file):
        return good, ""
    try:
        recorded = sealed.read(progress_file)
        for file in files:
            good[file.name] = []
            if not recorded.get(file.name) or not os.path.lexists(partial / file.name):
                continue  # a kill between the last move and the commit leaves only the record
            rows = RowFile(partial / file.name)
            for text, (first, last) in zip(recorded[file.name], file.bounds(), strict=False):
                digest = _hash({name: column[first:last] for name, column in rows.columns.items()})
                rows.release()
                if digest != text:
                    return good, f"rows {first} to {last - 1} of {file.name} do not match their hash"
                good[file.name].append(text)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return good, f"{type(error).__name__}: {error}"
    return good, ""


def _hash(columns: Mapping[str, np.ndarray]) -> str:
    """sha256 over the columns' names, dtypes, shapes and bytes, in order of name."""
    total = hashlib.sha256()
    for name in sorted(columns):
        column = np.ascontiguousarray(columns[name])
        total.update(f"{name} {column.dtype} {column.shape}\n".encode())
        total.update(column.data)
    return total.hexdigest()


def layout(columns: Mapping[str, np.ndarray]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Row shape and dtype, by column."""
    return {name: (column.shape[1:], str(column.dtype)) for name, column in columns.items()}
