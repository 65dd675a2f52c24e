"""Points of one's own: one .npy of shape (N, d), or a CSV or TSV with a point a line."""

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
from collapse_sim.data.data_files import content_hash, open_npy, regular, release
from collapse_sim.data.duplicates import groups_of, row_digests, say_shared
from collapse_sim.data.held_out import ShareOrCount, check_rows, held_out_index, shuffled_split
from collapse_sim.data.remember import FileStats, load, store
from collapse_sim.data.split import Divided

KIND = "point_files"
Count = Annotated[int, Field(gt=0)]
SEPARATORS = {".csv": ",", ".tsv": "\t"}
NAMES = {",": "comma", "\t": "tab", ";": "semicolon"}
READ_ROWS = 1 << 16
MOSTLY = 0.5  # of the held-out points: a few equal ones are usual where values are rounded


class PointFiles(Divided):
    """Points of your own: .npy, CSV or TSV of N points in d dimensions, one a row; every value is a finite number.

    Held-out rows are the first ones of a fixed permutation; the real rows are the others, in that order.
    """

    path: Annotated[str, Field(min_length=1)]
    """The .npy, .csv or .tsv; relative to the data folder, or absolute."""
    rows: Count | None = None
    """Real rows that generation 0 is fitted to; default: all; the rest is the reserve."""
    held_out: ShareOrCount = 0.2
    """Share (0.2) or number (500) of rows."""
    held_out_rows: Count | None = None
    """At most so many held-out rows, a fixed random choice; default: all."""

    kind: ClassVar[str] = "points"
    seeded: ClassVar[bool] = False
    not_in_key: ClassVar[tuple[str, ...]] = ("path",)  # what lies there is known by its content, and may be moved

    def inspect(self, folder: Path) -> Info:
        """Reads the file once. Raises MissingError for what is in it, RecipeError for settings."""
        place = (folder / Path(self.path).expanduser()).absolute()
        rows, dimensions, fingerprint, same = _look(place)
        train, held_out = _split(place, self.held_out, rows)
        check_rows(self, len(train), len(held_out))
        say_shared(KIND, "points", same, train, held_out, lambda row: f"row {row}", least=MOSTLY)
        return Info(
            kind="points",
            columns={"x": ((dimensions,), "float64")},
            rows=self.rows or len(train),
            pool=len(train),
            held_out=self.held_out_rows or len(held_out),
            fingerprint=fingerprint,
        )

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        place = (folder / Path(self.path).expanduser()).absolute()
        points = _open(place)
        train, held_out = _split(place, self.held_out, len(points))
        return PointRows(points, train), PointRows(points, held_out[held_out_index(self, len(held_out))])


@dataclass(frozen=True, eq=False)
class PointRows:
    """data.base.RowSource: rows `index` of numbers (N, d). Column: "x" float64 (rows, d)."""

    points: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def read(self, first: int, last: int) -> Columns:
        """Rows first, ..., last - 1."""
        found = self.points[self.index[first:last]].astype(np.float64)
        release(self.points)
        return {"x": found}


def _split(place: Path, held_out: float | int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    if rows < 2:
        raise MissingError(f"{place} has one point; needed: at least one to train on and one held out")
    return shuffled_split(held_out, rows, "points")


def _look(place: Path) -> tuple[int, int, str, list[list[int]]]:
    """How many points and dimensions, the content's hash, which is the same in every format, and equal rows."""
    stamps = FileStats.of([(place.name, regular(place))], time.time_ns())
    found = load("points", place, stamps)
    if found is None:
        points = _open(place)
        x = points.astype(np.float64)
        rows, dimensions = x.shape
        found = {"rows": rows, "dimensions": dimensions}
        found |= {"fingerprint": content_hash(x=x), "same": groups_of(row_digests(x))}
        store("points", place, stamps, found)
    return found["rows"], found["dimensions"], str(found["fingerprint"]), found["same"]


def _open(place: Path) -> np.ndarray:
    """Finite numbers of shape (N, d), N and d at least 1. Raises MissingError for anything else."""
    ending = place.suffix.lower()
    if ending == ".npy":
        return _open_array(place)
    if ending not in SEPARATORS:
        regular(place)
        raise MissingError(f"{place}: points are read from .npy, {' and '.join(SEPARATORS)} files: save it as one")
    regular(place)
    return _read_lines(place, SEPARATORS[ending])


def _open_array(path: Path) -> np.ndarray:
    points = open_npy(path)
    found = f"found {points.dtype.name} of shape {points.shape}"
    if points.dtype.kind not in "fiu" or points.ndim not in (1, 2) or 0 in points.shape:
        raise MissingError(f"{path}: needed: real numbers of shape (N, d), or (N,) in one dimension; {found}")
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
    """float64 (N, d). A first line without any number is taken for the columns' names."""
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
        raise MissingError(f"{path}: no point in it: it is empty")
    return np.frombuffer(values, np.float64).reshape(-1, width)


def _lines(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(number of a line, its fields without the space around them), without empty lines."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.reader(file, delimiter=separator)
        for fields in table:
            if any(field.strip() for field in fields):
                yield table.line_num, [field.strip() for field in fields]


def _check_first(path: Path, number: int, fields: Sequence[str], separator: str, named: int) -> None:
    """What is strange about the first line of numbers: another separator, or names that are numbers."""
    other = next((sign for sign in NAMES if sign != separator and len(fields) == 1 and sign in fields[0]), "")
    if other:
        raise MissingError(
            f"{path}:{number}: no {NAMES[separator]}, but a {NAMES[other]}: {path.suffix} files have values divided by "
            f"{NAMES[separator]}s"
        )
    counted = [int(field) for field in fields if field.isdecimal()]
    if not named and len(fields) > 1 and counted == list(range(len(fields))):
        raise MissingError(
            f"{path}:{number}: is {separator.join(fields)!r} a point, or the numbers of the columns, as pandas writes "
            "them? Remove the line, or write 0.0 for 0"
        )


def _is_number(field: str) -> bool:
    """Whether Python reads it as a number; it also reads 1_000, which in a table is a slip."""
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field
