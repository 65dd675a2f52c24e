"""Images in a dataset of the datasets library on disk: what Dataset.save_to_disk made, or Parquet files.

The library reads the files, and no code that came with them; images are taken as the bytes that they are stored as.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from collapse_sim.core.errors import MissingError
from collapse_sim.data.data_files import is_folder, names_in, regular
from collapse_sim.data.remember import FileStats
from collapse_sim.data.saved_datasets import SPLITS, STATE, saved_names, without_progress

if TYPE_CHECKING:
    import datasets

SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}.*\.parquet")  # how a hub names the files of a part
LABEL = "label"


@dataclass(frozen=True, eq=False)
class Saved:
    """image_survey.Pictures: the rows of a dataset, in their order."""

    kind: str  # of data, in messages
    place: Path
    stamps: FileStats
    column: str  # of images
    images: datasets.Dataset  # that column, encoded
    classes: tuple[str, ...]
    numbers: np.ndarray | None  # int64 (rows,), of classes
    left_out: str = ""
    level: int = logging.INFO

    def __len__(self) -> int:
        return len(self.images)

    def name(self, number: int) -> str:
        """What messages call an image: rows are counted from 0."""
        return f"row {number}"

    def identity(self, number: int) -> bytes:
        """What its content hash covers beside the content."""
        return b"" if self.numbers is None else str(self.numbers[number]).encode()

    def content(self, number: int) -> bytes:
        """The bytes of an image. Raises ValueError when the dataset does not hold them."""
        value = self.images[number][self.column]
        found = value and value["bytes"]
        if not found:
            path = (value or {}).get("path")
            raise ValueError(f"only a path, {path}: save the images themselves" if path else "no image in it")
        return bytes(found)

    def labels(self) -> np.ndarray | None:
        """int64 (rows,), or None without classes."""
        return self.numbers


def find_dataset(place: Path) -> list[Path] | None:
    """The files of the dataset that is meant by `place`; None when none is there.

    A folder that Dataset.save_to_disk made, a Parquet file, a folder of a hub's Parquet files, or FOLDER/train for
    those that are called train-00000-of-00001.parquet in FOLDER or FOLDER/data.
    Raises MissingError for several parts at once.
    """
    if place.suffix == ".parquet" and os.path.lexists(place) and not is_folder(place):
        return [place]
    if is_folder(place):
        if os.path.lexists(place / SPLITS):
            _name_one(place, [name for name in names_in(place) if os.path.lexists(place / name / STATE)])
        if os.path.lexists(place / STATE):
            return _saved_files(place)
        parts = _shards(place)
        if len(parts) > 1:
            _name_one(place, sorted(parts))
        return next(iter(parts.values()), None)
    return _shards(place.parent).get(place.name)


def open_dataset(kind: str, place: Path, files: Sequence[Path]) -> Saved:
    """The images of the dataset whose files `find_dataset` found, as one column of them has them.

    Raises MissingError for what the library cannot read, for no or several columns of images, and for labels that are
    no classes.
    """
    taken_ns = time.time_ns()
    stamps = FileStats.of([(path.name, regular(path)) for path in files], taken_ns)
    import datasets

    try:
        with without_progress():
            if os.path.lexists(place / STATE):
                rows = datasets.load_from_disk(place)
            else:
                rows = datasets.Dataset.from_parquet([str(path) for path in files])
        rows.data.validate(full=True)
    except Exception as error:  # the library has many for what it cannot read
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise MissingError(f"{kind}: {place} cannot be read as a dataset ({reason}): save it again") from None
    images = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    labels = [name for name, feature in rows.features.items() if isinstance(feature, datasets.ClassLabel)]
    if len(images) != 1:
        listed = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in rows.features.items())
        raise MissingError(f"{kind}: {place} has {len(images)} columns of the type Image; needed: one; found: {listed}")
    label = labels[0] if len(labels) == 1 else LABEL if LABEL in labels else None
    others = [name for name in rows.features if name not in (images[0], label)]
    classes: tuple[str, ...] = tuple(rows.features[label].names) if label else ()
    numbers = _numbers(kind, place, rows.data.column(label), len(classes)) if label else None
    column = images[0]
    plain = rows.with_format(None)  # a format that was saved may give other columns
    encoded = plain.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    left_out = f"columns are left out: {', '.join(others)}" if others else ""
    level = logging.WARNING if labels and not label else logging.INFO
    return Saved(kind, place, stamps, column, encoded, classes, numbers, left_out, level)


def _numbers(kind: str, place: Path, column: Any, classes: int) -> np.ndarray:
    """int64 (rows,) of a column of classes."""
    found = [-1 if value is None else value for value in column.to_pylist()]
    numbers = np.array(found, np.int64)
    wrong = np.flatnonzero((numbers < 0) | (numbers >= classes))
    if len(wrong):
        raise MissingError(
            f"{kind}: {place}: row {wrong[0]} has the label {column[int(wrong[0])]}; allowed: 0 to {classes - 1}"
        )
    return numbers


def _saved_files(place: Path) -> list[Path]:
    """All files of a folder that Dataset.save_to_disk made; none is a pipe."""
    files = [place / name for name in (*saved_names(place), STATE, "dataset_info.json")]
    for path in files:
        regular(path)
    return files


def _shards(place: Path) -> dict[str, list[Path]]:
    """The Parquet files of every part, as a hub names them, in a folder or else in `data` in it."""
    for folder in (place, place / "data"):
        parts: dict[str, list[Path]] = {}
        for shard in filter(None, map(SHARD.fullmatch, names_in(folder))):
            parts.setdefault(shard[1], []).append(folder / shard[0])
        if parts:
            return parts
    return {}


def _name_one(place: Path, parts: Sequence[str]) -> None:
    raise MissingError(
        f"data.path: {place} holds several parts: name one of them: {', '.join(str(place / part) for part in parts)}"
    )
