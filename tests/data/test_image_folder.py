"""Images of one's own: files or an array, labels from subfolders, the split, colours."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from collapse_sim.data.images.image_folder import ImageFolder

from .making import row_bytes, rows_of, tagged, write_pictures


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


@pytest.mark.parametrize("layout", [("x/",), ("x/", ""), ("",)])
def test_no_labels_without_classes(layout: tuple[str, ...], tmp_path: Path) -> None:
    """One subfolder, or files beside subfolders, are no classes."""
    for number, place in enumerate(layout):
        write_pictures(tmp_path / place, tagged(4, 4, 4, first=10 * number))
    info = ImageFolder(path=".").inspect(tmp_path)
    assert (info.classes, set(info.columns)) == (0, {"image"})
    assert set(rows_of(ImageFolder(path="."), tmp_path)[0]) == {"image"}


def test_deep_folders_belong_to_their_first_level(tmp_path: Path) -> None:
    write_pictures(tmp_path / "ant" / "red", tagged(3, 4, 4))
    write_pictures(tmp_path / "ant" / "black", tagged(3, 4, 4, first=3))
    write_pictures(tmp_path / "bee", tagged(3, 4, 4, first=6))
    info = ImageFolder(path=".").inspect(tmp_path)
    assert (info.classes, info.pool + info.held_out) == (2, 9)


def test_other_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    write_pictures(tmp_path, tagged(5, 4, 4), suffix=".PNG")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._0000.png").write_bytes(b"a macOS resource fork")
    write_pictures(tmp_path / ".thumbnails", tagged(2, 4, 4))
    info = ImageFolder(path=".").inspect(tmp_path)
    assert info.pool + info.held_out == 5


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


def test_fingerprint_sees_contents_and_names(tmp_path: Path) -> None:
    """A changed pixel in a file of the same length, and a new name in the same place, change the key."""
    folder, data = tmp_path / "a", ImageFolder(path="a")
    folder.mkdir()
    for row, image in enumerate(tagged(5, 4, 4)):
        Image.fromarray(image).save(folder / f"{row}.png", compress_level=0)
    prints = [data.inspect(tmp_path).fingerprint]
    length = (folder / "4.png").stat().st_size
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "4.png", compress_level=0)
    assert (folder / "4.png").stat().st_size == length
    prints.append(data.inspect(tmp_path).fingerprint)
    (folder / "4.png").rename(folder / "5.png")
    prints.append(data.inspect(tmp_path).fingerprint)
    assert len(set(prints)) == 3


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
