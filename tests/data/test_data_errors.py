"""Bad data is found by `inspect`, before any training; the message names the file and says what to do."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.data.images.cifar10 import CIFAR10
from collapse_sim.data.images.digits import Digits
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.data.images.mnist import MNIST, FashionMNIST

from .making import (
    MNIST_FILES,
    idx_bytes,
    labels_of,
    rows_of,
    tagged,
    write_cifar_arrays,
    write_cifar_binary,
    write_mnist,
    write_pictures,
)


def message_of(data, folder: Path, error: type[Exception] = MissingError) -> str:
    """What inspecting says."""
    with pytest.raises(error) as caught:
        data.inspect(folder)
    return str(caught.value)


# Missing data: which folder, which files, how to get them.


@pytest.mark.parametrize(
    ("data", "title", "name"), [(MNIST(), "MNIST", "mnist"), (FashionMNIST(), "FashionMNIST", "fashion_mnist")]
)
def test_missing_idx_files(data, title: str, name: str, tmp_path: Path) -> None:
    text = message_of(data, tmp_path)
    assert text.startswith(f"{name}: no data in {tmp_path}")
    for place in (tmp_path / title / "raw", tmp_path / name):
        assert str(place) in text
    for file in MNIST_FILES:
        assert file in text
    assert "--data-dir" in text
    assert "COLLAPSE_SIM_DATA" in text
    assert f"from torchvision.datasets import {title}; {title}('{tmp_path}', download=True)" in text


def test_one_missing_idx_file(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    assert f"{tmp_path}/MNIST/raw lacks t10k-labels-idx1-ubyte (or with .gz)" in message_of(MNIST(), tmp_path)


def test_fashion_asked_for_and_mnist_found(tmp_path: Path) -> None:
    """Both sets have files of the same names: taking one for the other would go unnoticed."""
    write_mnist(tmp_path)
    labels = np.array([5, 0, 4, 1, 9, 2, 1, 3, 1, 4, *range(10), *range(10)], np.uint8)
    (tmp_path / MNIST_FILES[1]).write_bytes(idx_bytes(labels))
    text = message_of(FashionMNIST(), tmp_path)
    assert f"the files in {tmp_path} are those of mnist" in text
    assert f"{tmp_path}/FashionMNIST/raw" in text
    assert MNIST().inspect(tmp_path).pool == 30


def test_missing_cifar10(tmp_path: Path) -> None:
    text = message_of(CIFAR10(), tmp_path)
    assert f"no data in {tmp_path}" in text
    assert f"{tmp_path}/cifar10 for train_images.npy" in text
    assert f"{tmp_path}/cifar-10-batches-bin" in text


def test_pickled_cifar10_is_not_read_but_can_be_converted(tmp_path: Path) -> None:
    """The advice is run as it stands, on a stand-in for torchvision, and gives what `cifar10` reads."""
    (tmp_path / "cifar-10-batches-py").mkdir()
    text = message_of(CIFAR10(), tmp_path)
    assert "cifar-10-batches-py is the pickled version, which is not read" in text
    command = text.splitlines()[-1].strip()
    program = command.removeprefix('python -c "').removesuffix('"')
    stand_in = tmp_path / "stand_in" / "torchvision"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").touch()
    (stand_in / "datasets.py").write_text(
        "import numpy as np\n"
        "class CIFAR10:\n"
        "    def __init__(self, root, train, download):\n"
        "        n = 20 if train else 10\n"
        "        self.data, self.targets = np.full((n, 32, 32, 3), n, np.uint8), [i % 10 for i in range(n)]\n"
    )
    env = {**os.environ, "PYTHONPATH": str(stand_in.parent)}
    subprocess.run([sys.executable, "-c", program], check=True, env=env)
    info = CIFAR10().inspect(tmp_path)
    assert (info.pool, info.held_out) == (20, 10)


@pytest.mark.parametrize("name", ["train_labels.npy", "test_images.npy"])
def test_one_missing_cifar_array(name: str, tmp_path: Path) -> None:
    write_cifar_arrays(tmp_path / "cifar10", *_cifar())
    (tmp_path / "cifar10" / name).unlink()
    assert f"{tmp_path}/cifar10 lacks {name}" in message_of(CIFAR10(), tmp_path)


def test_one_missing_cifar_batch(tmp_path: Path) -> None:
    write_cifar_binary(tmp_path / "cifar-10-batches-bin", *_cifar())
    (tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    assert f"{tmp_path}/cifar-10-batches-bin lacks data_batch_3.bin" in message_of(CIFAR10(), tmp_path)


@pytest.mark.parametrize("path", ["nothing", "nothing.npy"])
def test_missing_image_folder(path: str, tmp_path: Path) -> None:
    assert str(tmp_path / path) in message_of(ImageFolder(path=path), tmp_path)


# IDX files that are not what they say.

BAD_IDX: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("train-images-idx3-ubyte", lambda b: b[:-1], "truncated: 23535 bytes, but its header (30x28x28) needs 23536"),
    ("train-images-idx3-ubyte", lambda b: b[:10], "truncated within its header"),
    ("train-labels-idx1-ubyte", lambda b: b[:-5], "truncated: 33 bytes, but its header (30) needs 38"),
    ("train-images-idx3-ubyte", lambda b: b + b"x", "too long: 23537 bytes"),
    ("train-images-idx3-ubyte", lambda b: b"", "not an IDX file: it begins with nothing"),
    ("t10k-images-idx3-ubyte", lambda b: b"<htm" + b, "not an IDX file: it begins with 3c 68 74 6d"),
    ("t10k-images-idx3-ubyte", lambda b: b[:2] + b"\x0d" + b[3:], "holds float32; allowed: uint8"),
    ("t10k-images-idx3-ubyte", lambda b: idx_bytes(labels_of(12)), "has 1 dimensions; needed: 3"),
    (
        "t10k-images-idx3-ubyte",
        lambda b: idx_bytes(np.zeros((0, 28, 28), np.uint8)),
        "empty: its header states the sizes 0x28x28",
    ),
    ("t10k-images-idx3-ubyte", lambda b: idx_bytes(tagged(12, 27, 28)), "images of 27x28 pixels"),
    ("t10k-labels-idx1-ubyte", lambda b: idx_bytes(labels_of(11)), "11 labels, but t10k-images-idx3-ubyte"),
    ("train-labels-idx1-ubyte", lambda b: idx_bytes(labels_of(30) + 1), "label 10 at row 6; allowed: 0 to 9"),
]


@pytest.mark.parametrize(("name", "spoil", "message"), BAD_IDX)
@pytest.mark.parametrize("zipped", [False, True])
def test_bad_idx(name: str, spoil: Callable[[bytes], bytes], message: str, zipped: bool, tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", zipped=zipped)
    if zipped:
        path = tmp_path / "mnist" / f"{name}.gz"
        path.write_bytes(gzip.compress(spoil(gzip.decompress(path.read_bytes()))))
    else:
        path = tmp_path / "mnist" / name
        path.write_bytes(spoil(path.read_bytes()))
    text = message_of(MNIST(), tmp_path)
    assert text.startswith(str(path))
    assert message in text


@pytest.mark.parametrize("spoil", [lambda b: b[:-20], lambda b: b[:100] + b"\0" * 50 + b[150:], lambda b: b"plain"])
def test_bad_gzip(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", zipped=True)
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(spoil(path.read_bytes()))
    assert f"{path}: not a complete gzip file" in message_of(MNIST(), tmp_path)


def test_gzip_without_its_ending(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", zipped=True)
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.rename(path.with_suffix(""))
    assert "this is a gzip file: rename it to train-images-idx3-ubyte.gz" in message_of(MNIST(), tmp_path)


# CIFAR-10.


def _cifar() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return tagged(10, 32, 32, 3), labels_of(10), tagged(5, 32, 32, 3, first=1000), labels_of(5)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train_images", np.zeros((10, 3, 32, 32), np.uint8), "found uint8 of shape (10, 3, 32, 32)"),
        ("train_images", np.zeros((10, 32, 32, 3)), "found float64 of shape (10, 32, 32, 3)"),
        ("test_images", np.zeros((0, 32, 32, 3), np.uint8), "found uint8 of shape (0, 32, 32, 3)"),
        ("test_labels", np.zeros((5, 1), np.int64), "one integer per row, shape (N,); found int64 of shape (5, 1)"),
        ("test_labels", np.zeros(5), "found float64"),
        ("test_labels", np.zeros(4, np.int64), "4 labels, but test_images.npy has 5 images"),
        ("test_labels", np.array([0, 1, -1, 2, 3]), "label -1 at row 2; allowed: 0 to 9"),
        ("test_labels", np.array([None] * 5), "not a readable .npy array"),
    ],
)
def test_bad_cifar_array(name: str, array: np.ndarray, message: str, tmp_path: Path) -> None:
    write_cifar_arrays(tmp_path / "cifar10", *_cifar())
    path = tmp_path / "cifar10" / f"{name}.npy"
    np.save(path, array, allow_pickle=True)
    text = message_of(CIFAR10(), tmp_path)
    assert text.startswith(str(path))
    assert message in text


@pytest.mark.parametrize("size", [0, 3072, 3073 * 2 - 1])
def test_truncated_cifar_batch(size: int, tmp_path: Path) -> None:
    write_cifar_binary(tmp_path / "cifar-10-batches-bin", *_cifar())
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:size])
    assert f"{path}: {size} bytes is not a multiple of the record size, 3073 bytes" in message_of(CIFAR10(), tmp_path)


def test_bad_label_in_a_cifar_batch(tmp_path: Path) -> None:
    write_cifar_binary(tmp_path / "cifar-10-batches-bin", *_cifar())
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    assert f"{path}: label 255 at row 0" in message_of(CIFAR10(), tmp_path)


# One's own images: arrays.


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


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda b: b[:-1], "not a readable .npy array"),
        (lambda b: b[:40], "not a readable .npy array"),
        (lambda b: b"", "not a readable .npy array"),
        (lambda b: b"PK\x03\x04" + b, "not a readable .npy array"),
        (lambda b: b + b"12345", "5 bytes more than its header states"),
    ],
)
def test_damaged_image_array(spoil: Callable[[bytes], bytes], message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, tagged(10, 8, 8))
    path.write_bytes(spoil(path.read_bytes()))
    assert f"{path}: {message}" in message_of(ImageFolder(path="a.npy"), tmp_path)


# One's own images: files.


def test_empty_image_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").touch()
    text = message_of(ImageFolder(path="empty"), tmp_path)
    assert f"no images in {tmp_path}/empty" in text
    assert ".png" in text


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_unreadable_images_are_all_named(suffix: str, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, tagged(6, 40, 40, 3), suffix)
    paths[1].write_bytes(paths[1].read_bytes()[:-200])
    paths[2].write_bytes(b"")
    paths[4].write_text("<html>not found</html>")
    text = message_of(ImageFolder(path="."), tmp_path)
    assert text.startswith(f"image_folder: 3 unreadable images in {tmp_path}")
    for number in (1, 2, 4):
        assert f"\n  {paths[number].name} (" in text
    assert f"{paths[2].name} (not an image of these formats: PNG, JPEG, WEBP, BMP, TIFF, GIF)" in text
    assert paths[0].name not in text


@pytest.mark.parametrize(("bad", "more"), [(10, ""), (13, "\n  and 3 more")])
def test_ten_unreadable_images_are_named_and_the_rest_counted(bad: int, more: str, tmp_path: Path) -> None:
    for path in write_pictures(tmp_path, tagged(20, 4, 4))[:bad]:
        path.write_bytes(b"")
    text = message_of(ImageFolder(path="."), tmp_path)
    assert f"{bad} unreadable" in text
    assert text.count(".png (") == 10
    assert text.endswith(more or "0009.png (not an image of these formats: PNG, JPEG, WEBP, BMP, TIFF, GIF)")


def test_other_formats_are_not_opened_whatever_their_name(tmp_path: Path) -> None:
    write_pictures(tmp_path, tagged(3, 4, 4))
    Image.fromarray(tagged(1, 4, 4)[0]).save(tmp_path / "x.png", format="PPM")
    assert "x.png (not an image of these formats: PNG, JPEG, WEBP, BMP, TIFF, GIF)" in message_of(
        ImageFolder(path="."), tmp_path
    )


def test_deep_pixels_would_be_clipped(tmp_path: Path) -> None:
    write_pictures(tmp_path, tagged(3, 4, 4))
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "deep.png")
    text = message_of(ImageFolder(path=".", channels=1), tmp_path)
    assert "deep.png (I;16 pixels of more than 8 bits: save it with 8 bits per channel)" in text


def test_mixed_modes(tmp_path: Path) -> None:
    write_pictures(tmp_path / "grey", tagged(2, 4, 4))
    write_pictures(tmp_path / "colour", tagged(3, 4, 4, 3))
    text = message_of(ImageFolder(path="."), tmp_path)
    assert "2 L (such as grey/0000.png), 3 RGB (such as colour/0000.png): set `data.channels` to 1" in text


def test_modes_that_are_neither_grey_nor_colour(tmp_path: Path) -> None:
    write_pictures(tmp_path, tagged(3, 4, 4, 4))
    assert "3 RGBA (such as 0000.png)" in message_of(ImageFolder(path="."), tmp_path)


def test_mixed_sizes(tmp_path: Path) -> None:
    write_pictures(tmp_path / "large", tagged(3, 8, 6))
    write_pictures(tmp_path / "small", tagged(2, 4, 4))
    text = message_of(ImageFolder(path="."), tmp_path)
    assert "images of 2 sizes: 3 of 8x6 (such as large/0000.png), 2 of 4x4 (such as small/0000.png)" in text
    assert "set `data.size`" in text


def test_everything_wrong_with_a_folder_is_said_at_once(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", tagged(2, 4, 4))
    write_pictures(tmp_path / "b", tagged(2, 5, 5, 3))
    (tmp_path / "c.png").touch()
    text = message_of(ImageFolder(path="."), tmp_path)
    for part in ("unreadable", "colour modes", "sizes"):
        assert part in text


def test_damage_that_only_decoding_shows_is_named_too(tmp_path: Path) -> None:
    """A PNG with right checksums over pixels that don't unpack: `inspect` doesn't decode, `load` does."""
    import zlib

    paths = write_pictures(tmp_path, tagged(5, 8, 8))
    content = paths[3].read_bytes()
    start = content.index(b"IDAT")
    length = int.from_bytes(content[start - 4 : start], "big")
    chunk = b"IDAT" + b"\0" * length
    spoilt = content[:start] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + content[start + 8 + length :]
    paths[3].write_bytes(spoilt)
    data = ImageFolder(path=".", held_out=1)
    with pytest.raises(MissingError, match=r"1 unreadable images in .*\n  0003.png"):
        rows_of(data, tmp_path)


def test_a_single_image_cannot_be_split(tmp_path: Path) -> None:
    write_pictures(tmp_path, tagged(1, 4, 4))
    assert "has one image" in message_of(ImageFolder(path="."), tmp_path)


# Settings that don't fit the data, or make no sense at all.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": 1438}, "data.rows: 1438 asked for, but there are 1437 real rows"),
        ({"held_out_rows": 361}, "data.held_out_rows: 361 asked for, but there are 360"),
        ({"size": 7, "fit": "pad"}, "data.size: cannot pad 8x8 images to 7x7: set `size` to 8 or more"),
        ({"crop": 9}, "data.crop: cannot crop 9x9 pixels from 8x8 images: set `crop` to 8 or less, or to null"),
        ({"crop": 6, "size": 5, "fit": "pad"}, "data.size: cannot pad 6x6 images to 5x5"),
    ],
)
def test_settings_that_do_not_fit(settings, message: str, tmp_path: Path) -> None:
    assert message in message_of(Digits(**settings), tmp_path, RecipeError)


def test_too_many_rows_held_out(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", tagged(10, 4, 4))
    text = message_of(ImageFolder(path="a.npy", held_out=10), tmp_path, RecipeError)
    assert "data.held_out: 10 of 10 images leaves none to train on: set at most 9" in text


def test_padding_files_to_less_than_the_largest(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", tagged(2, 4, 9))
    write_pictures(tmp_path / "b", tagged(2, 6, 3))
    data = ImageFolder(path=".", size=8, fit="pad")
    assert "set `size` to 9 or more" in message_of(data, tmp_path, RecipeError)


def test_images_smaller_than_what_is_cut_out(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", tagged(2, 9, 9))
    write_pictures(tmp_path / "b", tagged(3, 6, 8))
    text = message_of(ImageFolder(path=".", crop=7), tmp_path)
    assert "smaller than the crop, 7x7: 3 of 6x8 (such as b/0000.png): remove them" in text
    assert "`data.crop` to 6 or less" in text
    assert ImageFolder(path=".", crop=6).inspect(tmp_path).shape("image") == (1, 6, 6)


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a class fewer, which nobody would notice."""
    write_pictures(tmp_path / "a", tagged(2, 4, 4))
    write_pictures(tmp_path / "b", tagged(2, 4, 4))
    scan = os.scandir

    def refuse(path: Path):
        if path.name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert f"image_folder: {tmp_path}/b cannot be read: Permission denied" in message_of(
        ImageFolder(path="."), tmp_path
    )


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
def test_settings_that_make_no_sense(settings, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ImageFolder(**settings)
