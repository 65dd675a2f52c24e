"""Images in datasets of the datasets library on disk, our own export's among them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from collapse_sim.data.base import Info
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.run.sample_files import StoredRows, write_dataset
from collapse_sim.store.rowfile import RowWriter
from tests.data.making import message_of, rows_of, tagged

datasets = pytest.importorskip("datasets")

IMAGES = tagged(20, 6, 5, 3)
LABELS = (np.arange(20) * 7 % 3).tolist()


@pytest.fixture(autouse=True)
def _no_bars(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The library's bars are not drawn, and what it converts goes into a folder of the test's."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()


def made(label: str = "label", **more: list[object]) -> Any:
    features = {"image": datasets.Image(), label: datasets.ClassLabel(names=["ant", "bee", "cat"])}
    columns = {"image": [Image.fromarray(image) for image in IMAGES], label: LABELS, **more}
    rows = datasets.Dataset.from_dict(columns)
    for name, feature in features.items():
        rows = rows.cast_column(name, feature)
    return rows


def _saved(folder: Path) -> str:
    made().save_to_disk(folder / "set")
    return "set"


def _part(folder: Path) -> str:
    datasets.DatasetDict(train=made(), test=made().select([0, 1])).save_to_disk(folder / "set")
    return "set/train"


def _several_files(folder: Path) -> str:
    made().save_to_disk(folder / "set", num_shards=3)
    return "set"


def _parquet(folder: Path) -> str:
    made().to_parquet(folder / "set.parquet")
    return "set.parquet"


def _hub(folder: Path) -> str:
    (folder / "set" / "data").mkdir(parents=True)
    for part, rows in (("train", made()), ("test", made().select([0, 1]))):
        for number in range(2):
            shard = rows.shard(2, number, contiguous=True)
            shard.to_parquet(folder / "set" / "data" / f"{part}-0000{number}-of-00002.parquet")
    return "set/train"


def _with_a_format(folder: Path) -> str:
    made().with_format("numpy", columns=["label"]).save_to_disk(folder / "set")
    return "set"


@pytest.mark.parametrize("make", [_with_a_format, _saved, _part, _several_files, _parquet, _hub])
def test_rows_and_labels(make: Callable[[Path], str], tmp_path: Path) -> None:
    """The rows are those of an array with the same images; the key is the same in every form."""
    np.save(tmp_path / "array.npy", IMAGES)
    data, array = (ImageFolder(path=path, held_out=5) for path in (make(tmp_path), "array.npy"))
    info = data.inspect(tmp_path)
    assert (info.pool, info.held_out, info.classes) == (15, 5, 3)
    for ours, theirs in zip(rows_of(data, tmp_path), rows_of(array, tmp_path), strict=True):
        assert np.array_equal(ours["image"], theirs["image"])
        number = theirs["image"].transpose(0, 2, 3, 1).reshape(len(theirs["image"]), -1)[:, 1]
        assert ours["label"].tolist() == [LABELS[row] for row in number]
    made().save_to_disk(tmp_path / "again")
    assert info == ImageFolder(path="again", held_out=5).inspect(tmp_path)


def test_our_own_export(tmp_path: Path) -> None:
    """Samples that were exported as a dataset are data again."""
    columns = {"image": np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2)), "label": np.array(LABELS)}
    layout = {name: (column.shape[1:], str(column.dtype)) for name, column in columns.items()}
    writer = RowWriter(tmp_path / "samples.safetensors", 20, layout)
    writer.write(0, columns)
    writer.close()
    info = Info("images", {"image": ((3, 6, 5), "uint8"), "label": ((), "int64")}, 20, 20, 5, classes=3)
    write_dataset(tmp_path / "export", StoredRows(tmp_path / "samples.safetensors"), info)
    data = ImageFolder(path="export", held_out=1)
    assert data.inspect(tmp_path).classes == 3
    found = np.concatenate([part["image"] for part in rows_of(data, tmp_path)])
    assert {row.tobytes() for row in found} == {row.tobytes() for row in columns["image"]}


def test_other_columns_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    made(caption=["x"] * 20).save_to_disk(tmp_path / "set")
    assert ImageFolder(path="set").inspect(tmp_path).classes == 3
    assert "columns are left out: caption" in caplog.text


def test_changed_labels_are_other_data(tmp_path: Path) -> None:
    made().save_to_disk(tmp_path / "a")
    made().map(lambda row: {"label": 2 - row["label"]}).save_to_disk(tmp_path / "b")
    assert ImageFolder(path="a").inspect(tmp_path) != ImageFolder(path="b").inspect(tmp_path)


def _dictionary(folder: Path) -> None:
    datasets.DatasetDict(train=made(), test=made()).save_to_disk(folder / "set")


def _hub_parts(folder: Path) -> None:
    _hub(folder)


def _two_images(folder: Path) -> None:
    rows = made(other=[Image.fromarray(image) for image in IMAGES])
    rows.save_to_disk(folder / "set")


def _no_images(folder: Path) -> None:
    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(folder / "set")


def _unlabelled(folder: Path) -> None:
    rows = made()
    rows = rows.remove_columns("label").add_column("label", [0, 1, -1, *LABELS[3:]])
    rows.cast_column("label", datasets.ClassLabel(names=["ant", "bee", "cat"])).save_to_disk(folder / "set")


def _cut(folder: Path) -> None:
    _saved(folder)
    (path,) = (folder / "set").glob("*.arrow")
    path.write_bytes(path.read_bytes()[:-800])


def _gone(folder: Path) -> None:
    _saved(folder)
    (path,) = (folder / "set").glob("*.arrow")
    path.unlink()


def _state(folder: Path) -> None:
    _saved(folder)
    (folder / "set" / "state.json").write_text(json.dumps({"_data_files": 3}))


def _write_paths(path: Path, name: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"info": {"features": {"image": {"_type": "Image"}}}}
    column = pa.array([{"bytes": None, "path": name}] * 4, kind)
    schema = pa.schema([("image", kind)], metadata={"huggingface": json.dumps(features)})
    pq.write_table(pa.table([column], schema=schema), path)


def _path(folder: Path) -> None:
    _write_paths(folder / "set-00000-of-00001.parquet", "/etc/hostname")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_dictionary, "set contains several parts: name one of them: "),
        (_hub_parts, "set contains several parts: name one of them: "),
        (_two_images, "has 2 columns of the type Image; needed: one; found: "),
        (_no_images, "has 0 columns of the type Image; needed: one; found: text (Value)"),
        (_unlabelled, "row 2 has the label -1; allowed: 0 to 2"),
        (_cut, "cannot be read as a dataset"),
        (_gone, "data-00000-of-00001.arrow: no such file"),
        (_state, "state.json: not what Dataset.save_to_disk writes"),
        (_path, "row 0 (only a path, /etc/hostname: save the images themselves)"),
    ],
)
def test_what_cannot_be_read(make: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    make(tmp_path)
    assert message in message_of(ImageFolder(path="set"), tmp_path)


def test_a_pipe_among_the_files_is_not_opened(tmp_path: Path) -> None:
    import os

    _saved(tmp_path)
    for name in ("dataset_info.json", "state.json", "data-00000-of-00001.arrow"):
        (tmp_path / "set" / name).unlink()
        os.mkfifo(tmp_path / "set" / name)
        assert "a named pipe, not a file" in message_of(ImageFolder(path="set"), tmp_path)


def test_other_parquet_beside_images_is_no_dataset(tmp_path: Path) -> None:
    for row, image in enumerate(IMAGES[:4]):
        Image.fromarray(image).save(tmp_path / f"{row}.png")
    made().remove_columns("image").to_parquet(tmp_path / "metadata.parquet")
    assert ImageFolder(path=".").inspect(tmp_path).pool == 3


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()

    def refuse(place: object) -> None:
        raise PermissionError(13, "Permission denied", str(place))

    with monkeypatch.context() as patch:
        patch.setattr("os.scandir", refuse)
        patch.setattr("os.listdir", refuse)
        message = message_of(ImageFolder(path="set"), tmp_path)
    assert message == f"{tmp_path}/set: cannot be read: Permission denied"
