"""Which reader reads generated rows from which file or folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from collapse_sim.core.errors import MissingError
from collapse_sim.data.base import Info
from collapse_sim.data.data_files import is_folder, stat_or_none
from collapse_sim.data.import_arrays import array_rows, dataset_rows
from collapse_sim.data.imported_rows import ImportedRows
from collapse_sim.data.saved_datasets import STATE

EXPORTED = ("samples.npz", "samples.jsonl", "dataset", "samples")  # where `export` puts samples in a model's folder


def imported_rows(path: Path, info: Info, needed: Sequence[str]) -> ImportedRows:
    """The generated rows at `path`, which may be the folder of a model that `export` wrote.

    `needed`: the columns that they must have; they may have any others of the data. Raises MissingError when nothing is
    there, for files of other formats, and with everything that does not fit the data.
    """
    path = _within(path)
    if stat_or_none(path) is None:
        raise MissingError(f"{path}: no such file or folder")
    arrays = path.suffix.lower() == ".npz" or (path.suffix.lower() == ".npy" and "image" not in info.columns)
    if arrays:
        return array_rows(path, info, needed)
    if info.tokenizer is not None:
        from collapse_sim.data.text.import_texts import text_rows

        return text_rows(path, info)
    from collapse_sim.data.images.image_sets import find_dataset
    from collapse_sim.data.images.import_images import image_rows

    if "image" in info.columns:
        return image_rows(path, info, needed)
    files = find_dataset(path)
    if files is None:
        return array_rows(path, info, needed)
    return dataset_rows(path, files, (path / STATE).exists(), info, needed)


def _within(path: Path) -> Path:
    """The samples in a folder that `export` wrote; any other path is itself."""
    if not is_folder(path):
        return path
    return next((path / name for name in EXPORTED if (path / name).exists()), path)
