"""Samples in formats that other programs read: .npz, PNG files, JSONL, plain text, a Hugging Face dataset on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from collapse_sim.core.printable import json_text
from collapse_sim.data.base import Info
from collapse_sim.data.saved_datasets import without_progress
from collapse_sim.data.text.tokens import END_OF_TEXT, texts_of
from collapse_sim.store.rowfile import RowFile

TEXT_KINDS = ("text", "pairs")  # kinds of data whose rows are token ids
SUFFIXES: Mapping[str, tuple[str, ...]] = {".npz": (), ".png": ("images",), ".jsonl": TEXT_KINDS, ".txt": ("text",)}
TEXT_NAMES = {"tokens": "text"}  # column of token ids -> name of its text
CHUNK_ROWS = 512  # rows read at a time, so that memory stays flat however many there are


@dataclass(frozen=True)
class StoredRows:
    """One seed's rows in a row file of the store."""

    path: Path
    slot: int | None = None  # the seed's index on the file's ensemble axis; None: the file has no such axis
    order: np.ndarray | None = None  # only these rows, in this order

    def open(self) -> tuple[RowFile, dict[str, np.ndarray]]:
        """The file and its memory-mapped columns, (rows, ...) each."""
        file = RowFile(self.path)
        return file, {name: column if self.slot is None else column[self.slot] for name, column in file.columns.items()}

    def rows(self) -> int:
        return len(next(iter(self.open()[1].values()))) if self.order is None else len(self.order)

    def chunks(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """(number of the first row, columns) for CHUNK_ROWS rows at a time, in order."""
        file, columns = self.open()
        for first in range(0, self.rows(), CHUNK_ROWS):
            part = slice(first, first + CHUNK_ROWS) if self.order is None else self.order[first : first + CHUNK_ROWS]
            chunk = {name: np.array(column[part]) for name, column in columns.items()}
            file.release()
            yield first, chunk


def suffixes(info: Info) -> tuple[str, ...]:
    """The file endings in which `write_rows` can write rows of this data."""
    return (".npz", *(suffix for suffix, kinds in SUFFIXES.items() if info.kind in kinds))


def write_rows(path: Path, columns: Mapping[str, np.ndarray], info: Info) -> None:
    """Write rows held in memory to one file, in the format that its suffix says; images as a square grid."""
    if path.suffix == ".png":
        from collapse_sim.analysis.image_grids import sample_grid

        sample_grid(columns["image"], path, columns=max(1, round(len(columns["image"]) ** 0.5)))
    elif path.suffix == ".jsonl":
        write_jsonl(path, [columns], info)
    elif path.suffix == ".txt":
        write_text(path, columns, info)
    else:
        write_npz(path, columns)


def write_npz(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write columns by name, (rows, ...) each, to a compressed .npz."""
    arrays: dict[str, Any] = {name: np.asarray(column) for name, column in columns.items()}
    np.savez_compressed(path, **arrays)


def write_png_folder(folder: Path, rows: StoredRows, info: Info) -> None:
    """Write images to FOLDER/ROW.png, labelled ones to FOLDER/LABEL/ROW.png, as the data `image_folder` reads them.

    Numbers are zero-padded, so that names sort in the order of the rows (with labels: within a class).
    """
    digits, label_digits = len(str(rows.rows() - 1)), len(str(info.classes - 1))
    folder.mkdir()
    for first, columns in rows.chunks():
        for i, image in enumerate(columns["image"]):
            place = folder
            if "label" in columns:
                place = folder / f"{columns['label'][i]:0{label_digits}d}"
                place.mkdir(exist_ok=True)
            Image.fromarray(_channels_last(image)).save(place / f"{first + i:0{digits}d}.png")


def texts_by_row(columns: Mapping[str, np.ndarray], info: Info) -> list[dict[str, str]]:
    """Decoded rows: {"text": ...} each, for pairs {"source": ..., "target": ...}."""
    tokenizer = info.text()
    decoded = {TEXT_NAMES.get(n, n): texts_of(columns[n], tokenizer) for n in info.columns if n in columns}
    return [dict(zip(decoded, values, strict=True)) for values in zip(*decoded.values(), strict=True)]


def write_jsonl(path: Path, chunks: Iterable[Mapping[str, np.ndarray]], info: Info) -> None:
    """Write texts as UTF-8, one JSON object (`texts_by_row`) per line, as the data `text_files` and `pairs` read."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for columns in chunks:
            file.writelines(json_text(row) + "\n" for row in texts_by_row(columns, info))


def write_text(path: Path, columns: Mapping[str, np.ndarray], info: Info) -> None:
    """Write texts as plain UTF-8, each followed by a line with END_OF_TEXT."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{row['text']}\n{END_OF_TEXT}\n" for row in texts_by_row(columns, info))


def write_dataset(folder: Path, rows: StoredRows, info: Info) -> None:
    """A dataset that `datasets.load_from_disk` reads: images as an Image (PNG), labels as a ClassLabel, texts decoded.

    Other columns keep their type; columns with several values per row are lists of fixed length.
    """
    import datasets

    _, columns = rows.open()
    if info.kind in TEXT_KINDS:
        names = [TEXT_NAMES.get(name, name) for name in info.columns if name in columns]
        features = datasets.Features(dict.fromkeys(names, datasets.Value("string")))
    else:
        features = datasets.Features({name: _feature(name, column, info) for name, column in columns.items()})
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder.parent) as cache, without_progress():
        dataset = datasets.Dataset.from_generator(
            _examples, features=features, cache_dir=cache, gen_kwargs={"rows": rows, "info": info}
        )
        dataset.save_to_disk(folder)


def _examples(rows: StoredRows, info: Info) -> Iterator[dict[str, Any]]:
    for _, columns in rows.chunks():
        if info.kind in TEXT_KINDS:
            yield from texts_by_row(columns, info)
            continue
        for values in zip(*columns.values(), strict=True):
            example = dict(zip(columns, values, strict=True))
            yield {n: _channels_last(value) if _is_image(n, info) else value for n, value in example.items()}


def _feature(name: str, column: np.ndarray, info: Info) -> Any:
    import datasets

    if _is_image(name, info):
        return datasets.Image()
    if name == "label" and info.classes:
        return datasets.ClassLabel(num_classes=info.classes)
    feature: Any = datasets.Value(str(column.dtype))
    for length in reversed(column.shape[1:]):
        feature = datasets.Sequence(feature, length=length)
    return feature


def _is_image(name: str, info: Info) -> bool:
    return info.kind == "images" and name == "image"


def _channels_last(image: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (H, W, C), or (H, W) for one channel."""
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)
