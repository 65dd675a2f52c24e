"""Images of one's own: files or an array, labels, the split, colours, and settings that make no sense."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from collapse_sim.core.errors import RecipeError
from collapse_sim.data.images.image_folder import ImageFolder
from tests.data.making import message_of, row_bytes, rows_of, tagged, write_pictures


def test_files_and_array_of_the_same_images_give_the_same_rows(tmp_path: Path) -> None:
    images = tagged(20, 9, 7, 3)
    write_pictures(tmp_path / "files", images)
    np.save(tmp_path / "array.npy", images)
    for settings in ({}, {"size": 6}, {"size": 12, "fit": "pad"}, {"channels": 1}):
        files, array = (ImageFolder(path=path, **settings) for path in ("files", "array.npy"))
        a, b = files.inspect(tmp_path), array.inspect(tmp_path)
        assert (a.columns, a.pool, a.held_out) == (b.columns, b.pool, b.held_out)
        for left, right in zip(rows_of(files, tmp_path), rows_of(array, tmp_path), strict=True):
            assert left["image"].shape[1:] == a.shape("image")
            assert np.array_equal(left["image"], right["image"])


@pytest.mark.parametrize(("held_out", "rows"), [(0.2, 10), (0.5, 25), (0.001, 1), (0.999, 49), (7, 7), (49, 49)])
def test_held_out_is_a_share_or_a_count(held_out: float | int, rows: int, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", tagged(50, 4, 4))
    info = ImageFolder(path="a.npy", held_out=held_out).inspect(tmp_path)
    assert (info.held_out, info.pool) == (rows, 50 - rows)


def test_rows_are_shuffled_so_that_the_first_are_of_all_classes(tmp_path: Path) -> None:
    images = tagged(60, 4, 4)
    for number, name in enumerate(("ant", "bee", "cat")):
        write_pictures(tmp_path / name, images[20 * number : 20 * number + 20])
    data = ImageFolder(path=".")
    info = data.inspect(tmp_path)
    assert info.classes == 3
    train, held_out = rows_of(data, tmp_path)
    for part in (train, held_out):
        tags = part["image"].reshape(len(part["image"]), -1)[:, 1]
        assert np.array_equal(part["label"], tags // 20)  # labels stay with their images
    assert set(train["label"][:12].tolist()) == {0, 1, 2}


def test_jpeg(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, np.full((5, 16, 16, 3), 100, np.uint8), suffix=".jpg")
    with paths[0].open("ab") as file:
        file.write(b"something after the end marker, which cameras do")
    data = ImageFolder(path=".")
    assert data.inspect(tmp_path).shape("image") == (3, 16, 16)
    assert np.abs(rows_of(data, tmp_path)[0]["image"].astype(int) - 100).max() <= 2


def test_channels_converts_mixed_modes(tmp_path: Path) -> None:
    grey = np.full((4, 4), 77, np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "colour.png")
    Image.fromarray(np.stack([grey] * 4, -1)).save(tmp_path / "transparent.png")
    palette = Image.fromarray(grey).convert("P")
    palette.save(tmp_path / "palette.png", transparency=b"\x00\x10")
    for channels in (1, 3):
        data = ImageFolder(path=".", channels=channels)
        assert data.inspect(tmp_path).shape("image") == (channels, 4, 4)
        for part in rows_of(data, tmp_path):
            assert (part["image"] == 77).all()


def test_mixed_sizes_are_brought_to_one(tmp_path: Path) -> None:
    write_pictures(tmp_path / "x", tagged(3, 10, 10))
    write_pictures(tmp_path / "y", tagged(3, 6, 6))
    for settings in ({"size": 8}, {"size": 10, "fit": "pad"}):
        data = ImageFolder(path=".", **settings)
        shape = data.inspect(tmp_path).shape("image")
        assert shape == (1, settings["size"], settings["size"])
        assert rows_of(data, tmp_path)[0]["image"].shape[1:] == shape


def test_absolute_path_and_moved_data_have_the_same_key(tmp_path: Path) -> None:
    write_pictures(tmp_path / "here", tagged(5, 4, 4))
    relative, absolute = ImageFolder(path="here"), ImageFolder(path=str(tmp_path / "here"))
    assert relative.inspect(tmp_path) == absolute.inspect(Path("/nowhere"))
    assert relative.describe() == absolute.describe()
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert ImageFolder(path="there").inspect(tmp_path) == ImageFolder(path=str(tmp_path / "there")).inspect(tmp_path)


def test_fingerprint_of_an_array(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", tagged(5, 4, 4))
    np.save(tmp_path / "b.npy", tagged(5, 4, 4, first=1))
    assert ImageFolder(path="a.npy").inspect(tmp_path) != ImageFolder(path="b.npy").inspect(tmp_path)


def test_split_does_not_change_between_versions(tmp_path: Path) -> None:
    """Which rows are held out is part of what a published result means."""
    np.save(tmp_path / "a.npy", tagged(10, 4, 4))
    train, held_out = rows_of(ImageFolder(path="a.npy", held_out=3), tmp_path)
    assert held_out["image"][:, 0, 0, 1].tolist() == [2, 8, 4]
    assert row_bytes(train["image"]) | row_bytes(held_out["image"]) == row_bytes(tagged(10, 1, 4, 4))


@pytest.mark.parametrize("path", ["nothing", "nothing.npy"])
def test_missing_image_folder(path: str, tmp_path: Path) -> None:
    assert str(tmp_path / path) in message_of(ImageFolder(path=path), tmp_path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 8, 8), np.float32), "found float32 of shape (4, 8, 8): scale the values to 0..255"),
        (np.zeros((4, 8), np.uint8), "found uint8 of shape (4, 8)"),
        (np.zeros((4, 3, 8, 8), np.uint8), "channels come last, save array.transpose(0, 2, 3, 1)"),
        (np.zeros((4, 8, 8, 4), np.uint8), "found uint8 of shape (4, 8, 8, 4)"),
        (np.zeros((0, 8, 8), np.uint8), "found uint8 of shape (0, 8, 8): it is empty"),
        (np.array([{}] * 4), "not a readable .npy array"),
    ],
)
def test_bad_image_array(array: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    text = message_of(ImageFolder(path="a.npy"), tmp_path)
    assert text.startswith(str(tmp_path / "a.npy"))
    assert message in text


def test_a_single_image_cannot_be_split(tmp_path: Path) -> None:
    write_pictures(tmp_path, tagged(1, 4, 4))
    assert "has one image" in message_of(ImageFolder(path="."), tmp_path)


def test_too_many_rows_held_out(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", tagged(10, 4, 4))
    text = message_of(ImageFolder(path="a.npy", held_out=10), tmp_path, RecipeError)
    assert "data.held_out: 10 of 10 images leaves none to train on: set at most 9" in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "x", "held_out": 1.0}, "1.0 is not a share between 0 and 1"),
        ({"path": "x", "held_out": 0.0}, "0.0 is not a share"),
        ({"path": "x", "held_out": -0.1}, "-0.1 is not a share"),
        ({"path": "x", "held_out": 0}, "0 rows are too few"),
        ({"path": "x", "held_out": "20%"}, "'20%' is not a number"),
        ({"path": "x", "held_out": float("nan")}, "nan is not a share"),
        ({"path": "x", "channels": 4}, "Input should be 1 or 3"),
        ({"path": "x", "fit": "pad"}, "`fit: pad` has no effect without `size`"),
        ({"path": "x", "fit": "crop"}, "Input should be 'resize' or 'pad'"),
        ({"path": "x", "size": 0}, "greater than 0"),
        ({"path": "x", "rows": 0}, "greater than 0"),
        ({"path": ""}, "at least 1 character"),
        ({}, "Field required"),
        ({"path": "x", "sise": 32}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_sense(settings: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ImageFolder(**settings)
