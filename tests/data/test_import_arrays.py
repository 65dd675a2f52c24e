"""Arrays from elsewhere come back as they are, and everything that does not fit the data is named."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from collapse_sim.core.errors import MissingError
from collapse_sim.data import file_cache, import_arrays
from collapse_sim.data.base import Info
from collapse_sim.data.import_arrays import array_rows, dataset_rows
from collapse_sim.data.text.tokens import Tokenizer

POINTS = Info("points", {"x": ((2,), "float64")}, 10, 10, 5)
LINES = Info("regression", {"x": ((3,), "float64"), "y": ((), "float64")}, 10, 10, 5)
LABELLED = Info("images", {"image": ((1, 4, 4), "uint8"), "label": ((), "int64")}, 10, 10, 5, classes=3)
WORDS = Tokenizer.of_words(["a", "b"])
TEXTS = Info("text", {"tokens": ((4,), "int16")}, 10, 10, 5, tokenizer=WORDS)
X = np.random.default_rng(0).normal(size=(6, 2))
IMAGES = np.arange(96, dtype=np.uint8).reshape(6, 1, 4, 4)


def read(path, info, needed):
    rows = array_rows(path, info, needed)
    return rows, rows.open().read(0, rows.rows)


def test_columns_come_back_by_name_and_in_the_types_of_the_data(tmp_path):
    np.savez(tmp_path / "a.npz", y=X[:, 0].astype(np.float32), x=np.tile(X, 2)[:, :3])
    rows, columns = read(tmp_path / "a.npz", LINES, ("x", "y"))
    assert (rows.rows, rows.columns) == (6, ("x", "y"))
    np.testing.assert_array_equal(columns["x"], np.tile(X, 2)[:, :3])
    np.testing.assert_array_equal(columns["y"], X[:, 0].astype(np.float32).astype(np.float64))
    assert {column.dtype.name for column in columns.values()} == {"float64"}


@pytest.mark.parametrize("name", ["points.npy", "unnamed.npz", "points.csv", "points.tsv", "named.npz"])
def test_points_come_back_from_every_format(tmp_path, name):
    np.save(tmp_path / "points.npy", X)
    np.savez(tmp_path / "unnamed.npz", X)
    np.savez_compressed(tmp_path / "named.npz", x=X)
    for ending, separator in (("csv", ","), ("tsv", "\t")):
        lines = (separator.join(map(repr, row)) for row in X.tolist())
        (tmp_path / f"points.{ending}").write_text("\n".join(lines))
    rows, columns = read(tmp_path / name, POINTS, ("x",))
    np.testing.assert_array_equal(columns["x"], X)
    assert rows.content == array_rows(tmp_path / "points.npy", POINTS, ("x",)).content


def test_one_dimension_needs_no_axis(tmp_path):
    np.save(tmp_path / "x.npy", X[:, 0])
    info = Info("points", {"x": ((1,), "float64")}, 10, 10, 5)
    _, columns = read(tmp_path / "x.npy", info, ("x",))
    np.testing.assert_array_equal(columns["x"], X[:, :1])


@pytest.mark.parametrize("saved", [True, False])
def test_a_dataset_on_disk(tmp_path, saved):
    rows = datasets.Dataset.from_dict({"x": np.tile(X, 2)[:, :3].tolist(), "y": X[:, 0].tolist()})
    path = tmp_path / ("dataset" if saved else "rows.parquet")
    rows.save_to_disk(path) if saved else rows.to_parquet(path)
    files = [path / "state.json"] if saved else [path]
    imported = dataset_rows(path, files, saved, LINES, ("x", "y"))
    columns = imported.open().read(0, imported.rows)
    np.testing.assert_array_equal(columns["x"], np.tile(X, 2)[:, :3])
    np.testing.assert_array_equal(columns["y"], X[:, 0])


WRONG = [
    (POINTS, ("x",), {"z": X}, "z: the data has no such column; allowed: x; no column x; there are: z"),
    (LINES, ("x", "y"), {"x": X}, "no column y; there are: x; x has the shape (6, 2); needed: (N, 3)"),
    (POINTS, ("x",), {"x": X[0, 0]}, "x has the shape (); needed: (N, 2)"),
    (LINES, ("y",), {"y": X}, "y has the shape (6, 2); needed: (N,)"),
    (POINTS, ("x",), {"x": X + 1j}, "x is complex128; needed: float64, or a type whose values it has"),
    (LABELLED, ("image",), {"image": IMAGES / 255}, "image is float64; needed: uint8"),
    (LABELLED, ("image",), {"image": IMAGES[:, :, :3]}, "image has the shape (6, 1, 3, 4); needed: (N, 1, 4, 4)"),
    (
        LABELLED, ("image",), {"image": IMAGES, "label": np.array([0, 1, 2, 3, 0, 0])},
        "label 3 at row 3; allowed: 0 to 2",
    ),
    (LABELLED, ("image", "label"), {"image": IMAGES}, "no column label; there are: image"),
    (
        LABELLED, ("image",), {"image": IMAGES, "label": np.zeros(5, int)},
        "columns of different lengths: image has 6 rows, label has 5 rows",
    ),
    (POINTS, ("x",), {"x": np.where(X[4, 1] == X, np.inf, X)}, "x of row 4 is not finite"),
    (TEXTS, ("tokens",), {"tokens": np.full((2, 4), 3, np.int16)}, "tokens 3 at row 0; allowed of a token: -1 to 2"),
    (TEXTS, ("tokens",), {"tokens": np.full((2, 4), -2, np.int8)}, "tokens -2 at row 0; allowed of a token: -1 to 2"),
    (TEXTS, ("tokens",), {"tokens": np.zeros((2, 4), np.int64)}, "tokens is int64; needed: int16"),
]  # fmt: skip


@pytest.mark.parametrize(("info", "needed", "columns", "message"), WRONG)
def test_what_does_not_fit_is_named(tmp_path, info, needed, columns, message):
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.raises(MissingError) as caught:
        array_rows(tmp_path / "a.npz", info, needed)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'a.npz'}: ")
    assert message in text


def test_all_mismatches_are_in_one_message(tmp_path):
    np.savez(tmp_path / "a.npz", image=IMAGES[:, :, :3], label=np.array([7]), more=X)
    with pytest.raises(MissingError, match=r"more: the data has no such column.*image has the shape.*label 7 at row 0"):
        array_rows(tmp_path / "a.npz", LABELLED, ("image",))


def test_files_that_are_none_of_these(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK broken")
    with pytest.raises(MissingError, match=r"a\.npz: not a readable \.npz"):
        array_rows(tmp_path / "a.npz", POINTS, ("x",))
    np.savez(tmp_path / "b.npz", x=np.array([{"a": 1}], object))
    with pytest.raises(MissingError, match="it contains Python objects, which are not read"):
        array_rows(tmp_path / "b.npz", POINTS, ("x",))
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(MissingError, match=r"c\.json: rows with the columns x are not read from such files"):
        array_rows(tmp_path / "c.json", POINTS, ("x",))
    np.save(tmp_path / "d.npy", X)
    with pytest.raises(MissingError, match="one array, but rows have the columns x, y: save them with these names"):
        array_rows(tmp_path / "d.npy", LINES, ("x", "y"))
    with pytest.raises(MissingError, match="no such file"):
        array_rows(tmp_path / "e.npy", POINTS, ("x",))


def test_a_file_that_changes_after_the_check_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", X)
    rows = array_rows(tmp_path / "x.npy", POINTS, ("x",))
    np.save(tmp_path / "x.npy", X + 1)
    with pytest.raises(MissingError, match=r"x\.npy: changed since it was checked: run the command again"):
        rows.open()


def test_a_checked_file_is_not_read_again_before_it_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(file_cache, "SETTLED_NS", -1)
    np.savez(tmp_path / "a.npz", x=X)
    first = array_rows(tmp_path / "a.npz", POINTS, ("x",))
    monkeypatch.setattr(import_arrays, "_npz", lambda path: pytest.fail("read again"))
    again = array_rows(tmp_path / "a.npz", POINTS, ("x",))
    assert (again.rows, again.columns, again.content) == (first.rows, first.columns, first.content)
