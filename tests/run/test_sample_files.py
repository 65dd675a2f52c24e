"""Samples in files of other programs: what is read back is what was stored."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import datasets
import numpy as np

from collapse_sim.data.base import Info
from collapse_sim.data.held_out import shuffled
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.run.sample_files import StoredRows, texts_by_row, write_dataset, write_jsonl, write_png_folder
from collapse_sim.store.rowfile import RowWriter
from tests.data.making import rows_of
from tests.words import LENGTH, TOKENIZER, Words, ids


def test_colour_images_come_back(tmp_path):
    """No family is needed: rows of three channels in a row file."""
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6), dtype=np.uint8)
    rows, info = written(tmp_path / "rows", {"image": images}), Info("images", {"image": ((3, 4, 6), "uint8")}, 5, 5, 1)
    write_png_folder(tmp_path / "png", rows, info)
    real, held_out = rows_of(ImageFolder(path="png", held_out=1), tmp_path)
    np.testing.assert_array_equal(np.concatenate([held_out["image"], real["image"]]), images[shuffled(5)])
    write_dataset(tmp_path / "dataset", rows, info)
    dataset = datasets.load_from_disk(str(tmp_path / "dataset"))
    found = np.stack([np.asarray(row["image"]) for row in dataset])
    np.testing.assert_array_equal(found, images.transpose(0, 2, 3, 1))


def written(path: Path, columns: dict[str, np.ndarray]) -> StoredRows:
    writer = RowWriter(
        path, len(next(iter(columns.values()))), {n: (c.shape[1:], str(c.dtype)) for n, c in columns.items()}
    )
    writer.write(0, columns)
    writer.close()
    return StoredRows(path)


def test_memory_does_not_grow_with_the_rows(tmp_path):
    """100 MB of rows are seen 1.5 MB at a time."""
    RowWriter(tmp_path / "rows", 32 * 1024, {"image": ((3, 32, 32), "uint8")}).close()
    tracemalloc.start()
    try:
        seen = sum(len(columns["image"]) for _, columns in StoredRows(tmp_path / "rows").chunks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == 32 * 1024
    assert peak < 8 * 2**20


def test_packed_rows_are_divided_by_line_breaks(tmp_path):
    """A row with the end of one text, a whole one, and the beginning of a third."""
    row = np.array([[3, 0, 1, 2, 0, 4, 5, 1, 2, 3, 4, 5]], np.int16)
    info = Info("text", {"tokens": ((LENGTH,), "int16")}, 1, 1, 1, tokenizer=TOKENIZER, packed=True)
    text = "queen\nthe king\ncat saw the king queen cat saw"
    assert texts_by_row({"tokens": row}, info) == [{"text": text}]
    write_jsonl(tmp_path / "x.jsonl", [{"tokens": row}], info)
    assert (tmp_path / "x.jsonl").read_text().count("\n") == 1
    assert json.loads((tmp_path / "x.jsonl").read_text()) == {"text": text}


def test_texts_without_any_are_rows_all_the_same(tmp_path):
    info = Words().inspect(tmp_path)
    columns = {"tokens": ids(["", "the", ""])}
    assert [row["text"] for row in texts_by_row(columns, info)] == ["", "the", ""]
    writer = RowWriter(tmp_path / "rows", 3, {"tokens": ((LENGTH,), "int16")})
    writer.write(0, columns)
    writer.close()
    write_dataset(tmp_path / "dataset", StoredRows(tmp_path / "rows"), info)
    assert datasets.load_from_disk(str(tmp_path / "dataset"))["text"][:] == ["", "the", ""]
