"""Points from the user's own file: a .npy of shape (N, d), or a CSV or TSV with one point per line."""

from __future__ import annotations

import csv
import math
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from collapse_sim.core.errors import MissingError
from collapse_sim.data.base import Columns, Info, RowSource
from collapse_sim.data.data_files import check_regular, content_hash, open_npy, release
from collapse_sim.data.duplicates import groups_of, row_digests, warn_of_shared_rows
from collapse_sim.data.file_cache import FileStats, load, store
from collapse_sim.data.held_out import ShareOrCount, check_rows, held_out_index, shuffled_split
from collapse_sim.data.split import Divided

KIND = "point_files"
Count = Annotated[int, Field(gt=0)]
SEPARATORS = {".csv": ",", ".tsv": "\t"}
NAMES = {",": "comma", "\t": "tab", ";": "semicolon"}
READ_ROWS = 1 << 16
WARN_SHARE = 0.5  # of the held-out points: a few equal points are common where values are rounded


class PointFiles(Divided):
    """Your own points: a .npy, CSV or TSV file of N points in d dimensions, one per row; all values must be finite.

    The held-out rows are the first ones of a fixed permutation; the real rows are the others, in that order.
    """

    path: Annotated[str, Field(min_length=1)]
    """The .npy, .csv or .tsv file; relative to the data folder, or absolute."""
    rows: Count | None = None
    """Number of real rows that generation 0 is fitted to; default: all. The other real rows are the reserve."""
    held_out: ShareOrCount = 0.2
    """Share (0.2) or number (500) of rows to hold out."""
    held_out_rows: Count | None = None
    """Largest number of held-out rows to use, a fixed random choice; default: all."""

    kind: ClassVar[str] = "points"
    seeded: ClassVar[bool] = False
    not_in_key: ClassVar[tuple[str, ...]] = ("path",)  # the content is in the key, so the file may be moved

    def inspect(self, folder: Path) -> Info:
        """Reads the file once. Raises MissingError for wrong content, RecipeError for wrong settings."""
        path = (folder / Path(self.path).expanduser()).absolute()
        rows, dimensions, fingerprint, same = _summary(path)
        train, held_out = _split(path, self.held_out, rows)
        check_rows(self, len(train), len(held_out))
        warn_of_shared_rows(KIND, "points", same, train, held_out, lambda row: f"row {row}", threshold=WARN_SHARE)
        return Info(
            kind="points",
            columns={"x": ((dimensions,), "float64")},
            rows=self.rows or len(train),
            pool=len(train),
            held_out=self.held_out_rows or len(held_out),
            fingerprint=fingerprint,
        )

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        path = (folder / Path(self.path).expanduser()).absolute()
        points = open_points(path)
        train, held_out = _split(path, self.held_out, len(points))
        return PointRows(points, train), PointRows(points, held_out[held_out_index(self, len(held_out))])


@dataclass(frozen=True, eq=False)
class PointRows:
    """data.base.RowSource: the rows `index` of `points` (N, d). Column: "x" float64 (rows, d)."""

    points: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def read(self, first: int, last: int) -> Columns:
        """Rows first, ..., last - 1."""
        points = self.points[self.index[first:last]].astype(np.float64)
        release(self.points)
        return {"x": points}


def _split(path: Path, held_out: float | int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    if rows < 2:
        raise MissingError(f"{path} has one point; needed: at least one to train on and one held out")
    return shuffled_split(held_out, rows, "points")


def _summary(path: Path) -> tuple[int, int, str, list[list[int]]]:
    """Numbers of points and dimensions, the content hash (the same in every format), and groups of equal rows."""
    stamps = FileStats.of([(path.name, check_regular(path))], time.time_ns())
    summary = load("points", path, stamps)
    if summary is None:
        points = open_points(path)
        x = points.astype(np.float64)
        rows, dimensions = x.shape
        summary = {"rows": rows, "dimensions": dimensions}
        summary |= {"fingerprint": content_hash(x=x), "same": groups_of(row_digests(x))}
        store("points", path, stamps, summary)
    return summary["rows"], summary["dimensions"], str(summary["fingerprint"]), summary["same"]


def open_points(path: Path) -> np.ndarray:
    """Finite numbers of shape (N, d), N and d at least 1. Raises MissingError for anything else."""
    ending = path.suffix.lower()
    if ending == ".npy":
        return _open_array(path)
    if ending not in SEPARATORS:
        check_regular(path)
        raise MissingError(f"{path}: points are read from .npy, {' and '.join(SEPARATORS)} files: save it as one")
    check_regular(path)
    return _read_lines(path, SEPARATORS[ending])


def _open_array(path: Path) -> np.ndarray:
    points = open_npy(path)
    found_text = f"found {points.dtype.name} of shape {points.shape}"
    if points.dtype.kind not in "fiu" or points.ndim not in (1, 2) or 0 in points.shape:
        raise MissingError(f"{path}: needed: real numbers of shape (N, d), or (N,) in one dimension; {found_text}")
    if points.ndim == 1:
        points = points[:, None]
    for first in range(0, len(points), READ_ROWS):
        wrong = ~np.isfinite(points[first : first + READ_ROWS].astype(np.float64)).all(1)
        release(points)
        if wrong.any():
            row = first + int(wrong.argmax())
            raise MissingError(f"{path}: row {row} is {points[row].tolist()}: every value must be a finite number")
    return points


def _read_lines(path: Path, separator: str) -> np.ndarray:
    """float64 (N, d). A first line without any number is taken as the column names."""
    values = array("d")
    width, named = 0, 0
    try:
        for number, fields in _lines(path, separator):
            if not width and not named and not any(_is_number(field) for field in fields):
                named = len(fields)
                continue
            if not width:
                width = named or len(fields)
                _check_first(path, number, fields, separator, named)
            if len(fields) != width:
                raise MissingError(f"{path}:{number}: {len(fields)} values, but the lines above have {width}")
            for column, field in enumerate(fields, 1):
                value = float(field) if _is_number(field) else math.nan
                if not math.isfinite(value):
                    raise MissingError(
                        f"{path}:{number}: column {column} is {field[:60]!r}: every value must be a finite number with "
                        "a decimal point: remove the line or the column"
                    )
                values.append(value)
    except UnicodeDecodeError as error:
        raise MissingError(f"{path}: not UTF-8 text ({error.reason}): unpack it, or save it as UTF-8") from None
    except csv.Error as error:
        raise MissingError(f"{path}: not a readable table ({error})") from None
    except OSError as error:
        raise MissingError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not values:
        raise MissingError(f"{path}: the file is empty: it has no points")
    return np.frombuffer(values, np.float64).reshape(-1, width)


def _lines(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields stripped of surrounding space) of all lines that are not empty."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.reader(file, delimiter=separator)
        for fields in table:
            if any(field.strip() for field in fields):
                yield table.line_num, [field.strip() for field in fields]


def _check_first(path: Path, number: int, fields: Sequence[str], separator: str, named: int) -> None:
    """Raises MissingError if the first line of numbers has another separator or consists of column numbers."""
    other = next((sign for sign in NAMES if sign != separator and len(fields) == 1 and sign in fields[0]), "")
    if other:
        raise MissingError(
            f"{path}:{number}: no {NAMES[separator]}, but a {NAMES[other]}: values in {path.suffix} files must be "
            f"separated by {NAMES[separator]}s"
        )
    counted = [int(field) for field in fields if field.isdecimal()]
    if not named and len(fields) > 1 and counted == list(range(len(fields))):
        raise MissingError(
            f"{path}:{number}: is {separator.join(fields)!r} a point, or the column numbers that pandas writes? "
            "Remove the line, or write 0.0 for 0"
        )


def _is_number(field: str) -> bool:
    """Whether `field` is a number for Python, except with underscores (1_000), which in a table is a mistake."""
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field
