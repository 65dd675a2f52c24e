"""Rows made piece by piece into one file, resumable after a kill."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
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

SHARDS_FILE = "shards.json"  # the hashes of finished pieces

# Columns of each job; None from the piece on that a job has failed at.
MakeTogether = Callable[[int, int, int], Sequence[Mapping[str, np.ndarray] | None]]
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
    """Make row files piece by piece, one file after the other, into `folder`. Resuming repeats at most one piece of
    each rank.

    They stay among the job's checkpoints until all are complete. A requested stop is honoured between pieces. Each rank
    makes every world-th piece, and rank 0 writes them.
    """
    ranks = context.ranks
    partial, hashes = ranks.of_first(lambda: _begun(job, context, files))
    unfinished = _Unfinished(job, context, partial, hashes, sum(file.rows for file in files))
    context.restart_clock()
    for file in files:
        bounds = list(enumerate(file.bounds()))
        finished = len(hashes.setdefault(file.name, []))
        unfinished.done += sum(last - first for _, (first, last) in bounds[:finished])
        with contextlib.closing(unfinished):
            for at in range(finished, len(bounds), ranks.world):
                pieces = bounds[at : at + ranks.world]
                made = ranks.each(pieces, lambda piece: _made(context, file, *piece))  # noqa: B023
                ranks.of_first(lambda: unfinished.write(file, pieces, made))  # noqa: B023
    ranks.of_first(lambda: [(partial / file.name).replace(folder / file.name) for file in files])


def pieces_together(
    jobs: Sequence[Job], folders: Sequence[Path], context: JobContext, file: Pieces, make: MakeTogether
) -> None:
    """Make one row file of each job piece by piece, a piece of all jobs at a time.

    They stay among the jobs' checkpoints until these are committed, so that after a kill in between the rest is not
    made again by a smaller group. Of a job that fails, only what was good is recorded: it fails at the same piece
    again.
    """
    begun = [_begun(job, context, [file]) for job in jobs]
    files = [
        _Unfinished(job, context, partial, hashes, file.rows)
        for job, (partial, hashes) in zip(jobs, begun, strict=True)
    ]
    finished = [len(hashes.setdefault(file.name, [])) for _, hashes in begun]
    bounds = list(enumerate(file.bounds()))
    context.restart_clock()
    with contextlib.ExitStack() as open_files:
        for each, count in zip(files, finished, strict=True):
            open_files.enter_context(contextlib.closing(each))
            each.done = sum(last - first for _, (first, last) in bounds[:count])
        for number, (first, last) in bounds[min(finished) :]:
            context.stop.check()
            for each, count, columns in zip(files, finished, make(number, first, last), strict=True):
                if number >= count and columns is not None:
                    each.write(file, [(number, (first, last))], [columns], to_the_end=True)
    for (partial, hashes), folder in zip(begun, folders, strict=True):
        if len(hashes[file.name]) == len(bounds):
            _linked(partial / file.name, folder / file.name)


def _linked(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _begun(job: Job, context: JobContext, files: Sequence[Pieces]) -> tuple[Path, dict[str, list[str]]]:
    """The folder of a job's unfinished rows, and the hashes of the pieces in it."""
    partial = context.store.partial(job)
    with explain_write_errors(partial):
        partial.mkdir(parents=True, exist_ok=True)
    hashes, damage = _finished(partial / SHARDS_FILE, partial, files)
    if damage:
        context.emit(Note(f"damaged unfinished rows, remade from there: {partial} ({damage})"))
    return partial, hashes


def _made(context: JobContext, file: Pieces, piece: int, bounds: tuple[int, int]) -> Mapping[str, np.ndarray]:
    context.stop.check()
    return file.make(piece, *bounds)


class _Unfinished:
    """A job's row files, and which pieces of them are written."""

    def __init__(self, job: Job, context: JobContext, partial: Path, hashes: dict[str, list[str]], total: int) -> None:
        """`total`: rows of all files."""
        self._job, self._context, self._partial = job, context, partial
        self._hashes, self._total = hashes, total
        self._writer: RowWriter | None = None
        self._rows_seen = 0  # since the last report
        self.done = 0  # rows

    def write(
        self,
        file: Pieces,
        pieces: Sequence[tuple[int, tuple[int, int]]],
        made: Sequence[Mapping[str, np.ndarray]],
        *,
        to_the_end: bool = False,
    ) -> None:
        """Write the next pieces of a file, and record each; the last one only if it is not moved away at once."""
        for (_, (first, last)), columns in zip(pieces, made, strict=True):
            if self._writer is None:
                self._writer = RowWriter(self._partial / file.name, file.rows, layout(columns))
            self._writer.write(first, columns)
            boundary("shard")
            self._hashes[file.name].append(_hash(columns))
            self.done += last - first
            self._rows_seen += last - first
            if to_the_end or self.done < self._total:
                write_atomic(self._partial / SHARDS_FILE, sealed.text(self._hashes), durable=False)
                boundary("shard recorded")
        if self._context.due():
            self._context.report(self._job, self.done, self._total, "rows", self._rows_seen)
            self._rows_seen = 0

    def close(self) -> None:
        """End a file."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


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


def finished_pieces(folder: Path, name: str) -> int:
    """How many pieces of a file are recorded in a folder of unfinished work; 0 if that cannot be read."""
    try:
        return len(sealed.read(folder / SHARDS_FILE)[name])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


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
