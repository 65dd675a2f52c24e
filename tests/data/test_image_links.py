"""Folders of images with links, other endings, and things that are no files: nothing is missing without a word."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from collapse_sim.core.errors import MissingError
from collapse_sim.data.images import image_files
from collapse_sim.data.images.celeba import CelebA
from collapse_sim.data.images.cifar10 import CIFAR10
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.data.images.mnist import MNIST
from collapse_sim.data.point_files import PointFiles

from .making import labels_of, rows_of, tagged, write_celeba, write_cifar_arrays, write_mnist, write_pictures
from .test_data_errors import message_of

HERE = ImageFolder(path=".")


def inspected(folder: Path, data: ImageFolder = HERE) -> tuple[int, int]:
    """Images and classes."""
    info = data.inspect(folder)
    return info.pool + info.held_out, info.classes


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Three classes of six images."""
    for number, name in enumerate("abc"):
        write_pictures(tmp_path / "pool" / name, tagged(6, 4, 4, first=10 * number))
    return tmp_path / "pool"


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


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


STRANGE = [
    (_fifo, "a named pipe"),
    (_socket, "a socket"),
    (Path.mkdir, "a folder"),
    (_nowhere, "a link to nowhere, which does not exist"),
    (_loop, ""),
]


@pytest.mark.parametrize(("make", "message"), STRANGE)
def test_what_is_no_file_is_never_opened(make, message: str, pool: Path) -> None:
    make(pool / "a" / "x.jpg")
    assert f"a/x.jpg ({message}" in message_of(HERE, pool)


def _mnist(folder: Path) -> tuple[MNIST, Path]:
    write_mnist(folder)
    return MNIST(), folder / "train-labels-idx1-ubyte"


def _zipped(folder: Path) -> tuple[MNIST, Path]:
    write_mnist(folder, zipped=True)
    return MNIST(), folder / "t10k-images-idx3-ubyte.gz"


def _cifar(folder: Path) -> tuple[CIFAR10, Path]:
    write_cifar_arrays(
        folder / "cifar10", tagged(10, 32, 32, 3), labels_of(10), tagged(5, 32, 32, 3, first=99), labels_of(5)
    )
    return CIFAR10(), folder / "cifar10" / "test_labels.npy"


def _batches(folder: Path) -> tuple[CIFAR10, Path]:
    place = folder / "cifar-10-batches-bin"
    place.mkdir()
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        (place / name).write_bytes(bytes(3073))
    return CIFAR10(), place / "data_batch_3.bin"


def _celeba(folder: Path) -> tuple[CelebA, Path]:
    return CelebA(), write_celeba(folder / "celeba") / "list_eval_partition.txt"


def _array(folder: Path) -> tuple[ImageFolder, Path]:
    np.save(folder / "a.npy", tagged(5, 4, 4))
    return ImageFolder(path="a.npy"), folder / "a.npy"


def _points(ending: str):
    def make(folder: Path) -> tuple[PointFiles, Path]:
        path = folder / f"p{ending}"
        np.save(path, np.zeros((5, 2))) if ending == ".npy" else path.write_text("1,2\n" * 5)
        return PointFiles(path=path.name), path

    return make


@pytest.mark.parametrize(("make", "message"), STRANGE)
@pytest.mark.parametrize(
    "data", [_mnist, _zipped, _cifar, _batches, _celeba, _array, _points(".npy"), _points(".csv"), _points(".bin")]
)
def test_in_place_of_any_file_of_data(data, make, message: str, tmp_path: Path) -> None:
    kind, path = data(tmp_path)
    path.unlink()
    make(path)
    text = message_of(kind, tmp_path)
    assert str(path) in text
    assert message in text


def test_a_folder_named_like_an_image_may_hold_some(pool: Path) -> None:
    """As some archives put every file into a folder of its name."""
    write_pictures(pool / "a" / "x.png", tagged(1, 4, 4, first=99))
    assert inspected(pool) == (19, 3)


def test_a_name_that_is_too_long_for_a_file(tmp_path: Path) -> None:
    for name in ("x" * 300, "x" * 300 + ".npy"):
        assert "File name too long" in message_of(ImageFolder(path=name), tmp_path)


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
    _, listing = data._find(tmp_path)
    real, _ = data.open(tmp_path)
    for row, number in enumerate(real.index):
        with Image.open(tmp_path / listing.names[number]) as image:
            expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        assert np.array_equal(real.read(row, row + 1)["image"][0], expected), listing.names[number]


def test_the_first_frame_is_taken_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = [Image.fromarray(np.full((8, 8), level, np.uint8)) for level in (40, 200)]
    for name in ("a.gif", "b.tif", "c.webp", "d.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "e.png")
    data = ImageFolder(path=".", channels=1)
    assert all(np.abs(part["image"].astype(int) - 40).max() <= 2 for part in rows_of(data, tmp_path))
    data.inspect(tmp_path)
    assert f"only the first frame or page is used of a.gif, b.tif, c.webp, d.png in {tmp_path}" in caplog.text


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
def test_names_that_are_not_utf8(name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As files, as folders, in the notes that are kept, and in messages."""
    from collapse_sim.data import remember

    monkeypatch.setenv("COLLAPSE_SIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remember, "SETTLED_NS", -(10**12))
    root = tmp_path / os.fsdecode(b"in-" + name)
    write_pictures(root / "a", tagged(4, 4, 4))
    write_pictures(root / os.fsdecode(name), tagged(4, 4, 4, first=9))
    (root / "a" / "0001.png").rename(root / "a" / os.fsdecode(name + b".png"))
    assert inspected(root) == inspected(root) == (8, 2)
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 1
    assert len(rows_of(HERE, root)[0]["image"]) == 6
    (root / "a" / os.fsdecode(name + b".png")).write_bytes(b"")
    assert "1 unreadable" in message_of(HERE, root)
    np.save(root / "images.npy", tagged(4, 4, 4))
    assert inspected(root, ImageFolder(path="images.npy"))[0] == 4


def test_the_key_of_utf8_names_is_what_it_was(tmp_path: Path) -> None:
    """Computed beside: sha256 over names, lengths and hashes."""
    import hashlib

    (tmp_path / "é").mkdir()
    paths = write_pictures(tmp_path / "é", tagged(3, 4, 4))
    total = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        total.update(f"é/{path.name}\0{len(content)}\0".encode() + hashlib.sha256(content).digest())
    assert HERE.inspect(tmp_path).fingerprint == total.hexdigest()


def test_a_file_that_goes_away_meanwhile(pool: Path) -> None:
    data = ImageFolder(path=".", held_out=1)
    real, _ = data.open(pool)
    for path in pool.rglob("*.png"):
        path.unlink()
    with pytest.raises(MissingError, match="17 unreadable images"):
        real.read(0, 17)
