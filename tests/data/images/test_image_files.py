"""Folders of images: links, other endings, classes, and things that are no files; nothing is missing without a word."""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from collapse_sim.data.images import image_files
from collapse_sim.data.images.image_folder import ImageFolder
from tests.data.making import STRANGE, message_of, rows_of, tagged, write_pictures

HERE = ImageFolder(path=".")


def inspected(folder: Path, data: ImageFolder = HERE) -> tuple[int, int]:
    """Images and classes."""
    info = data.inspect(folder)
    return info.pool + info.held_out, info.classes


@pytest.mark.parametrize("linked", ["c", "bc", "abc"])
def test_linked_classes_are_classes(linked: str, pool: Path, tmp_path: Path) -> None:
    """The same rows, labels and key as with the folders themselves."""
    made = tmp_path / "made"
    made.mkdir()
    for name in "abc":
        if name in linked:
            (made / name).symlink_to(pool / name)
        else:
            (pool / name).rename(made / name)
            (pool / name).symlink_to(made / name)
    assert inspected(made) == inspected(pool) == (18, 3)
    assert HERE.inspect(made) == HERE.inspect(pool)
    for ours, theirs in zip(rows_of(HERE, made), rows_of(HERE, pool), strict=True):
        assert np.array_equal(ours["label"], theirs["label"])
        assert np.array_equal(ours["image"], theirs["image"])


def test_a_circle_of_links_comes_to_an_end(pool: Path, caplog: pytest.LogCaptureFixture) -> None:
    (pool / "a" / "up").symlink_to(pool)
    (pool / "b" / "here").symlink_to(".")
    assert inspected(pool) == (18, 3)
    assert "2 links lead back to a folder they are in (a/up, b/here)" in caplog.text


def test_one_folder_may_be_reached_twice(pool: Path, caplog: pytest.LogCaptureFixture) -> None:
    (pool / "d").symlink_to(pool / "a")
    assert inspected(pool, ImageFolder(path=".", held_out=4)) == (24, 4)
    assert "have the same content as one that is trained on" in caplog.text


def test_links_that_branch_without_end_are_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path / "0", tagged(3, 4, 4))
    for level in range(1, 9):
        (tmp_path / str(level)).mkdir()
        for side in "ab":
            (tmp_path / str(level) / side).symlink_to(tmp_path / str(level - 1))
    assert f"by more than {image_files.MAX_VISITS} paths" in message_of(ImageFolder(path="8"), tmp_path)


def test_very_deep_folders(tmp_path: Path) -> None:
    """Deeper than Python may call itself."""
    write_pictures(tmp_path / "x", tagged(3, 4, 4))
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1100):
            Path("d").mkdir()
            os.chdir("d")
        Image.new("L", (4, 4)).save("deep.png")
        os.chdir(here)
        assert inspected(tmp_path)[0] == 4
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # which pytest could not


@pytest.mark.parametrize("name", ["0003.png", "class", "photo.v2"])
def test_a_broken_link_is_a_missing_file(name: str, pool: Path, tmp_path: Path) -> None:
    (pool / "b" / name).unlink(missing_ok=True)
    (pool / "b" / name).symlink_to(tmp_path / "gone" / name)
    text = message_of(HERE, pool)
    assert f"\n  b/{name} (a link to {tmp_path}/gone/{name}, which does not exist)" in text
    assert "1 of the entries" in text


def test_a_link_to_itself(pool: Path) -> None:
    (pool / "x.png").symlink_to("y.png")
    (pool / "y.png").symlink_to("x.png")
    text = message_of(HERE, pool)
    assert "x.png (a link to y.png, and back to itself)" in text
    assert "2 of the entries" in text


@pytest.mark.parametrize(("make", "message"), STRANGE)
def test_what_is_no_file_is_never_opened(make: Any, message: str, pool: Path) -> None:
    make(pool / "a" / "x.jpg")
    assert f"a/x.jpg ({message}" in message_of(HERE, pool)


def test_a_folder_named_like_an_image_may_hold_some(pool: Path) -> None:
    """As some archives put every file into a folder of its name."""
    write_pictures(pool / "a" / "x.png", tagged(1, 4, 4, first=99))
    assert inspected(pool) == (19, 3)


ENDINGS = [
    ("png", "PNG"), ("jpg", "JPEG"), ("jpeg", "JPEG"), ("jpe", "JPEG"), ("jfif", "JPEG"), ("webp", "WEBP"),
    ("bmp", "BMP"), ("tif", "TIFF"), ("tiff", "TIFF"), ("gif", "GIF"),
]  # fmt: skip


def test_all_these_endings_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every row is what Pillow reads, whatever lies in the file."""
    picture = Image.fromarray(tagged(1, 16, 12, 3)[0])
    for ending, kind in ENDINGS:
        (tmp_path / ending).mkdir()
        options = {"lossless": True} if kind == "WEBP" else {}
        picture.save(tmp_path / ending / f"x.{ending.upper()}", kind, **options)
        picture.transpose(Image.Transpose.ROTATE_180).save(tmp_path / ending / f"y.{ending}", kind, **options)
    data = ImageFolder(path=".", channels=3, held_out=1)
    assert inspected(tmp_path, data) == (20, 10)
    assert "left out" not in caplog.text
    listing: Any = data._find(tmp_path)[1]
    real: Any = data.open(tmp_path)[0]
    for row, number in enumerate(real.index):
        with Image.open(tmp_path / listing.names[number]) as image:
            expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        assert np.array_equal(real.read(row, row + 1)["image"][0], expected), listing.names[number]


def test_what_is_left_out_is_counted_and_named(pool: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(8):
        (pool / "a" / f"{number}.heic").touch()
    for number in range(3):
        (pool / f"{number}.svg").touch()
    (pool / "d" / "deep").mkdir(parents=True)
    (pool / "d" / "deep" / "one").touch()
    (pool / "__MACOSX").mkdir()
    HERE.inspect(pool)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"image_folder: in {pool} 12 files with other endings are left out (8 .heic, 3 .svg, 1 without one); "
        "1 folder has no image (d)"
    )


def test_notes_beside_images_are_worth_no_warning(pool: Path, caplog: pytest.LogCaptureFixture) -> None:
    (pool / "readme.md").touch()
    caplog.set_level(logging.INFO, "collapse_sim")
    HERE.inspect(pool)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().endswith("1 file with another ending is left out (1 .md)")


def test_images_beside_the_classes_are_said(pool: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pictures(pool, tagged(1, 4, 4, first=99))
    caplog.set_level(logging.INFO, "collapse_sim")
    assert inspected(pool) == (19, 0)
    assert "there are no labels, since not all images are in subfolders (0000.png)" in caplog.text


def test_no_image_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.heic").touch()
    assert "1 file with another ending is left out (1 .heic)" in message_of(HERE, tmp_path)


NAMES = [b"caf\xe9", "猫".encode("gbk"), b"\xff\xfe", "名前".encode("shift_jis")]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_not_utf8(name: bytes, tmp_path: Path, cache: Path) -> None:
    """As files, as folders, in the notes that are kept, and in messages."""
    root = tmp_path / os.fsdecode(b"in-" + name)
    write_pictures(root / "a", tagged(4, 4, 4))
    write_pictures(root / os.fsdecode(name), tagged(4, 4, 4, first=9))
    (root / "a" / "0001.png").rename(root / "a" / os.fsdecode(name + b".png"))
    assert inspected(root) == inspected(root) == (8, 2)
    assert len(list(cache.rglob("*.json"))) == 1
    assert len(rows_of(HERE, root)[0]["image"]) == 6
    (root / "a" / os.fsdecode(name + b".png")).write_bytes(b"")
    assert "1 unreadable" in message_of(HERE, root)
    np.save(root / "images.npy", tagged(4, 4, 4))
    assert inspected(root, ImageFolder(path="images.npy"))[0] == 4


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


def test_empty_image_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").touch()
    text = message_of(ImageFolder(path="empty"), tmp_path)
    assert f"no images in {tmp_path}/empty" in text
    assert ".png" in text


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a class fewer, which nobody would notice."""
    write_pictures(tmp_path / "a", tagged(2, 4, 4))
    write_pictures(tmp_path / "b", tagged(2, 4, 4))
    scan = os.scandir

    def refuse(path: Path) -> Any:
        if path.name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert f"image_folder: {tmp_path}/b cannot be read: Permission denied" in message_of(
        ImageFolder(path="."), tmp_path
    )
