"""Images in a dataset of the datasets library on disk: a folder from Dataset.save_to_disk, or Parquet files.

The library reads the files but runs no code that came with them; images are read as their stored bytes.
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
from collapse_sim.data.data_files import check_regular, is_folder, names_in
from collapse_sim.data.file_cache import FileStats
from collapse_sim.data.saved_datasets import SPLITS, STATE, saved_names, without_progress

if TYPE_CHECKING:
    import datasets

SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}.*\.parquet")  # names of a part's files on a hub
LABEL = "label"


@dataclass(frozen=True, eq=False)
class Saved:
    """image_survey.Pictures: the rows of a dataset, in their order."""

    kind: str  # kind of data, for messages
    path: Path
    stamps: FileStats
    column: str  # name of the image column
    images: datasets.Dataset  # that column, encoded
    classes: tuple[str, ...]
    numbers: np.ndarray | None  # int64 (rows,), class indices
    left_out: str = ""
    level: int = logging.INFO

    def __len__(self) -> int:
        return len(self.images)

    def name(self, number: int) -> str:
        """The name of an image in messages: rows are counted from 0."""
        return f"row {number}"

    def identity(self, number: int) -> bytes:
        """What the content hash covers in addition to the content."""
        return b"" if self.numbers is None else str(self.numbers[number]).encode()

    def content(self, number: int) -> bytes:
        """The bytes of an image. Raises ValueError when the dataset does not contain them."""
        value = self.images[number][self.column]
        content = value and value["bytes"]
        if not content:
            path = (value or {}).get("path")
            raise ValueError(f"only a path, {path}: save the images themselves" if path else "no image in it")
        return bytes(content)

    def labels(self) -> np.ndarray | None:
        """int64 (rows,), or None without classes."""
        return self.numbers


def find_dataset(path: Path) -> list[Path] | None:
    """The files of the dataset at `path`; None when there is none.

    `path` is a folder from Dataset.save_to_disk, a Parquet file, a folder of a hub's Parquet files, or FOLDER/train for
    the files train-00000-of-00001.parquet ... in FOLDER or FOLDER/data.
    Raises MissingError when there are several parts.
    """
    if path.suffix == ".parquet" and os.path.lexists(path) and not is_folder(path):
        return [path]
    if is_folder(path):
        if os.path.lexists(path / SPLITS):
            _refuse_several_parts(path, [name for name in names_in(path) if os.path.lexists(path / name / STATE)])
        if os.path.lexists(path / STATE):
            return _saved_files(path)
        parts = _shards(path)
        if len(parts) > 1:
            _refuse_several_parts(path, sorted(parts))
        return next(iter(parts.values()), None)
    return _shards(path.parent).get(path.name)


def open_dataset(kind: str, path: Path, files: Sequence[Path]) -> Saved:
    """The images of the dataset whose files `find_dataset` returned.

    Raises MissingError if the library cannot read the files, if there is not exactly one image column, or if a label is
    not one of the classes.
    """
    taken_ns = time.time_ns()
    stamps = FileStats.of([(file.name, check_regular(file)) for file in files], taken_ns)
    import datasets

    try:
        with without_progress():
            if os.path.lexists(path / STATE):
                rows = datasets.load_from_disk(path)
            else:
                rows = datasets.Dataset.from_parquet([str(file) for file in files])
        rows.data.validate(full=True)
    except Exception as error:  # the library raises many types for files that it cannot read
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise MissingError(f"{kind}: {path} cannot be read as a dataset ({reason}): save it again") from None
    images = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    labels = [name for name, feature in rows.features.items() if isinstance(feature, datasets.ClassLabel)]
    if len(images) != 1:
        listed = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in rows.features.items())
        raise MissingError(f"{kind}: {path} has {len(images)} columns of the type Image; needed: one; found: {listed}")
    label = labels[0] if len(labels) == 1 else LABEL if LABEL in labels else None
    others = [name for name in rows.features if name not in (images[0], label)]
    classes: tuple[str, ...] = tuple(rows.features[label].names) if label else ()
    numbers = _numbers(kind, path, rows.data.column(label), len(classes)) if label else None
    column = images[0]
    plain = rows.with_format(None)  # a saved format may return other columns
    encoded = plain.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    left_out = f"columns are left out: {', '.join(others)}" if others else ""
    level = logging.WARNING if labels and not label else logging.INFO
    return Saved(kind, path, stamps, column, encoded, classes, numbers, left_out, level)


def _numbers(kind: str, path: Path, column: Any, classes: int) -> np.ndarray:
    """int64 (rows,): the values of a class column. Raises MissingError for one that is not a class."""
    values = [-1 if value is None else value for value in column.to_pylist()]
    numbers = np.array(values, np.int64)
    wrong = np.flatnonzero((numbers < 0) | (numbers >= classes))
    if len(wrong):
        raise MissingError(
            f"{kind}: {path}: row {wrong[0]} has the label {column[int(wrong[0])]}; allowed: 0 to {classes - 1}"
        )
    return numbers


def _saved_files(folder: Path) -> list[Path]:
    """All files of a folder from Dataset.save_to_disk, each checked to be a regular file."""
    files = [folder / name for name in (*saved_names(folder), STATE, "dataset_info.json")]
    for path in files:
        check_regular(path)
    return files


def _shards(parent: Path) -> dict[str, list[Path]]:
    """The Parquet files of each part, as a hub names them, in a folder or else in its subfolder `data`."""
    for folder in (parent, parent / "data"):
        parts: dict[str, list[Path]] = {}
        for shard in filter(None, map(SHARD.fullmatch, names_in(folder))):
            parts.setdefault(shard[1], []).append(folder / shard[0])
        if parts:
            return parts
    return {}


def _refuse_several_parts(path: Path, parts: Sequence[str]) -> None:
    raise MissingError(
        f"data.path: {path} contains several parts: name one of them: {', '.join(str(path / part) for part in parts)}"
    )
