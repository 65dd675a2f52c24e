"""Which reader reads what: by the columns of the data and the name of the file."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from collapse_sim.core.errors import MissingError
from collapse_sim.data.base import Info
from collapse_sim.data.import_files import imported_rows
from collapse_sim.data.text.tokens import Tokenizer
from tests.data.making import tagged, write_pictures

POINTS = Info("points", {"x": ((2,), "float64")}, 10, 10, 5)
IMAGES = Info("images", {"image": ((1, 8, 8), "uint8")}, 10, 10, 5)
TEXTS = Info("text", {"tokens": ((4,), "int16")}, 10, 10, 5, tokenizer=Tokenizer.of_words(["a", "b"]))
X = np.random.default_rng(0).normal(size=(6, 2))


def write_all(folder):
    """{path: (data, columns)}"""
    images, tokens = tagged(4, 8, 8), np.array([[0, 1, 2, 0], [0, 2, -1, -1]], np.int16)
    np.savez(folder / "images.npz", image=images[:, None])
    np.save(folder / "images.npy", images)
    write_pictures(folder / "images", images)
    np.save(folder / "points.npy", X)
    datasets.Dataset.from_dict({"x": X.tolist()}).save_to_disk(folder / "points")
    datasets.Dataset.from_dict({"x": X.tolist()}).to_parquet(folder / "points.parquet")
    np.savez(folder / "tokens.npz", tokens=tokens)
    np.save(folder / "tokens.npy", tokens)
    (folder / "texts.jsonl").write_text('{"text": "a b"}\n')
    exported = {"npz": "samples.npz", "png": "samples"}
    (folder / "npz").mkdir()
    np.savez(folder / "npz" / exported["npz"], image=images[:, None])
    write_pictures(folder / "png" / exported["png"], images)
    (folder / "jsonl").mkdir()
    (folder / "jsonl" / "samples.jsonl").write_text('{"text": "a b"}\n')
    datasets.Dataset.from_dict({"x": X.tolist()}).save_to_disk(folder / "saved" / "dataset")
    for name in ("npz", "png", "jsonl", "saved"):
        (folder / name / "config.json").write_text("{}")
    rows = dict.fromkeys(("images.npz", "images.npy", "images", "npz", "png"), (IMAGES, "image", images[:, None]))
    rows |= dict.fromkeys(("points.npy", "points", "points.parquet", "saved"), (POINTS, "x", X))
    rows |= dict.fromkeys(("tokens.npz", "tokens.npy"), (TEXTS, "tokens", tokens))
    return rows | {name: (TEXTS, "tokens", np.array([[0, 1, 2, 0]])) for name in ("texts.jsonl", "jsonl")}


def test_rows_come_back_from_every_place(tmp_path):
    for name, (info, column, values) in write_all(tmp_path).items():
        rows = imported_rows(tmp_path / name, info, (column,))
        np.testing.assert_array_equal(rows.open().read(0, rows.rows)[column], values, err_msg=name)


def test_nothing_there(tmp_path):
    for info, needed in ((IMAGES, ("image",)), (POINTS, ("x",)), (TEXTS, ("tokens",))):
        with pytest.raises(MissingError, match=r"no\.npz: no such file or folder"):
            imported_rows(tmp_path / "no.npz", info, needed)
    (tmp_path / "folder").mkdir()
    with pytest.raises(MissingError, match="folder"):
        imported_rows(tmp_path / "folder", POINTS, ("x",))
