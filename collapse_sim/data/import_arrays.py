"""Generated rows as arrays: .npz with the columns by name, one column as .npy, points as a table, a saved dataset."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from collapse_sim.core.errors import MissingError
from collapse_sim.core.hashing import digest_of
from collapse_sim.data.base import Info, RowSource
from collapse_sim.data.data_files import ArrayRows, check_regular, content_hash, open_npy
from collapse_sim.data.file_cache import FileStats, load, store
from collapse_sim.data.imported_rows import CHANGED, ImportedRows
from collapse_sim.data.point_files import SEPARATORS, open_points
from collapse_sim.data.text.tokens import PAD_TOKEN_ID

UNNAMED = "arr_0"  # numpy's name of an array that was saved without one
Arrays = dict[str, np.ndarray]


def array_rows(path: Path, info: Info, needed: Sequence[str]) -> ImportedRows:
    """The rows of a .npz, .npy, .csv or .tsv file. Raises MissingError with everything that does not fit the data."""
    return checked_rows(path, [path], lambda: _arrays(path, needed), info, needed)


def checked_rows(
    path: Path, files: Sequence[Path], read: Callable[[], Arrays], info: Info, needed: Sequence[str]
) -> ImportedRows:
    """The rows of arrays that `read` gives, (n, ...) each, from `files`. They are read once to be checked and hashed,
    and once more to be stored. Raises MissingError with everything that does not fit the data."""
    stamps = FileStats.of([(str(file), check_regular(file)) for file in files], time.time_ns())
    allowed = {name: [list(shape), dtype] for name, (shape, dtype) in info.columns.items()}
    limits = [allowed, list(needed), info.classes, info.tokenizer.size if info.tokenizer else 0]
    name = f"imported arrays {digest_of(limits)}"
    summary = load(name, path, stamps)
    if summary is None:
        arrays = fitting(path, read(), info, needed)
        summary = {"rows": len(next(iter(arrays.values()))), "columns": list(arrays), "sha256": content_hash(**arrays)}
        store(name, path, stamps, summary)
    content = str(summary["sha256"])

    def opened() -> RowSource:
        arrays = fitting(path, read(), info, needed)
        if content_hash(**arrays) != content:
            raise MissingError(CHANGED.format(path))
        return ArrayRows(arrays)

    return ImportedRows(str(path), summary["rows"], tuple(summary["columns"]), content, opened)


def fitting(path: Path, arrays: Mapping[str, np.ndarray], info: Info, needed: Sequence[str]) -> Arrays:
    """The arrays in the data's types, in the order of their names. Raises MissingError with every mismatch."""
    problems = [*_mismatches(arrays, info, needed)]
    if problems:
        raise MissingError(f"{path}: {'; '.join(problems)}")
    return {name: np.ascontiguousarray(arrays[name].astype(info.columns[name][1])) for name in sorted(arrays)}


def _mismatches(arrays: Mapping[str, np.ndarray], info: Info, needed: Sequence[str]) -> Iterator[str]:
    if unknown := [name for name in arrays if name not in info.columns]:
        yield f"{', '.join(unknown)}: the data has no such column; allowed: {', '.join(info.columns)}"
    if lacking := [name for name in needed if name not in arrays]:
        yield f"no column {', '.join(lacking)}; there are: {', '.join(arrays) or 'none'}"
    fit = True
    for name, array in arrays.items():
        if name not in info.columns:
            continue
        shape, dtype = info.columns[name]
        if array.ndim == 0 or array.shape[1:] != shape:
            yield f"{name} has the shape {array.shape}; needed: {_shape(shape)}"
            fit = False
        elif not np.can_cast(array.dtype, dtype, "safe"):
            yield f"{name} is {array.dtype.name}; needed: {dtype}, or a type whose values it has"
            fit = False
        else:
            yield from _wrong_values(name, array, info)
    counts = {name: len(array) for name, array in arrays.items() if array.ndim}
    if fit and len(set(counts.values())) > 1:
        yield "columns of different lengths: " + ", ".join(f"{name} has {rows} rows" for name, rows in counts.items())


def _shape(row: tuple[int, ...]) -> str:
    """ "(N, 1, 32, 32)"; one value per row is "(N,)"."""
    return f"(N, {', '.join(map(str, row))})" if row else "(N,)"


def _wrong_values(name: str, array: np.ndarray, info: Info) -> Iterator[str]:
    """The first value of a column that no row of the data can have."""
    if not array.size:
        return
    if name == "label":
        yield from _outside(name, array, 0, info.classes - 1)
    elif info.tokenizer is not None:
        yield from _outside(name, array, PAD_TOKEN_ID, info.tokenizer.size - 1, " of a token")
    elif array.dtype.kind == "f":
        wrong = ~np.isfinite(array).reshape(len(array), -1).all(1)
        if wrong.any():
            yield f"{name} of row {int(wrong.argmax())} is not finite"


def _outside(name: str, array: np.ndarray, least: int, most: int, of: str = "") -> Iterator[str]:
    wrong = ((array < least) | (array > most)).reshape(len(array), -1)
    if wrong.any():
        row = int(wrong.any(1).argmax())
        value = array.reshape(len(array), -1)[row, int(wrong[row].argmax())]
        yield f"{name} {value} at row {row}; allowed{of}: {least} to {most}"


def _arrays(path: Path, needed: Sequence[str]) -> Arrays:
    """The arrays of a file by name. Raises MissingError for files of another kind, and for damaged ones."""
    ending = path.suffix.lower()
    if ending == ".npz":
        return _named(_npz(path), path, needed)
    if ending == ".npy":
        return _named({UNNAMED: open_npy(path)}, path, needed)
    if ending in SEPARATORS and list(needed) == ["x"]:
        return {"x": open_points(path)}
    raise MissingError(f"{path}: rows with the columns {', '.join(needed)} are not read from such files")


def _npz(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy each raise errors of their own for damaged files
        objects = "pickle" in str(error)
        reason = "it contains Python objects, which are not read" if objects else str(error) or type(error).__name__
        raise MissingError(f"{path}: not a readable .npz ({reason}): save plain arrays with numpy.savez") from None


def _named(arrays: Arrays, path: Path, needed: Sequence[str]) -> Arrays:
    """An array without a name is the only column that is needed."""
    if list(arrays) != [UNNAMED]:
        return arrays
    if len(needed) > 1:
        raise MissingError(
            f"{path}: one array, but rows have the columns {', '.join(needed)}: save them with these names, as in "
            f"numpy.savez(FILE, {needed[0]}=...)"
        )
    array = arrays[UNNAMED]
    return {needed[0]: array[:, None] if needed[0] == "x" and array.ndim == 1 else array}


def dataset_rows(path: Path, files: Sequence[Path], saved: bool, info: Info, needed: Sequence[str]) -> ImportedRows:
    """The rows of a dataset of numbers: a folder from Dataset.save_to_disk (`saved`), or Parquet files."""

    def read() -> Arrays:
        import datasets

        from collapse_sim.data.saved_datasets import without_progress

        try:
            with without_progress():
                if saved:
                    rows = datasets.load_from_disk(str(path))
                else:
                    rows = datasets.Dataset.from_parquet([str(file) for file in files])
            return {name: np.array(rows.data.column(name).to_pylist()) for name in rows.column_names}
        except Exception as error:  # the library raises many types for files that it cannot read
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise MissingError(f"{path}: cannot be read as a dataset ({reason}): save it again") from None

    return checked_rows(path, files, read, info, needed)
