"""Strict reading: whatever lies in the place of a file, it is named, and nothing but a file is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collapse_sim.core.errors import MissingError
from collapse_sim.data import data_files
from collapse_sim.data.data_files import (
    ArrayRows,
    check_regular,
    checked_labels,
    content_hash,
    is_folder,
    names_in,
    open_npy,
    read_text,
    stat_or_none,
)
from collapse_sim.data.images.celeba import CelebA
from collapse_sim.data.images.cifar10 import CIFAR10
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.data.images.mnist import MNIST
from collapse_sim.data.point_files import PointFiles

from .making import STRANGE, labels_of, message_of, tagged, write_celeba, write_cifar_arrays, write_mnist


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


def _points(ending: str) -> Any:
    def make(folder: Path) -> tuple[PointFiles, Path]:
        path = folder / f"p{ending}"
        np.save(path, np.zeros((5, 2))) if ending == ".npy" else path.write_text("1,2\n" * 5)
        return PointFiles(path=path.name), path

    return make


@pytest.mark.parametrize(("make", "message"), STRANGE)
@pytest.mark.parametrize(
    "data", [_mnist, _zipped, _cifar, _batches, _celeba, _array, _points(".npy"), _points(".csv"), _points(".bin")]
)
def test_in_place_of_any_file_of_data(data: Any, make: Any, message: str, tmp_path: Path) -> None:
    kind, path = data(tmp_path)
    path.unlink()
    make(path)
    text = message_of(kind, tmp_path)
    assert str(path) in text
    assert message in text


def test_a_name_that_is_too_long_for_a_file(tmp_path: Path) -> None:
    for name in ("x" * 300, "x" * 300 + ".npy"):
        assert "File name too long" in message_of(ImageFolder(path=name), tmp_path)


def by_hand(**arrays: np.ndarray) -> str:
    """sha256 over names, types, shapes and contents."""
    total = b"".join(
        f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes() for name, array in arrays.items()
    )
    return hashlib.sha256(total).hexdigest()


@pytest.mark.parametrize("step", [1, 10, 1 << 22])
def test_the_hash_is_that_of_the_contents(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However they lie in memory or on disk, and however many bytes are taken at a time."""
    monkeypatch.setattr(data_files, "HASH_BYTES", step)
    images, labels = tagged(7, 3, 5), np.arange(7)
    expected = by_hand(images=images, labels=labels)
    np.save(tmp_path / "a.npy", images)
    np.save(tmp_path / "f.npy", np.asfortranarray(images))
    strided = np.repeat(images, 2, axis=0)[::2]
    on_disk = [open_npy(tmp_path / name) for name in ("a.npy", "f.npy")]
    for same in (images, np.asfortranarray(images), strided, *on_disk):
        assert content_hash(images=same, labels=labels) == expected
    changed = images.copy()
    changed[6, 2, 4] ^= 1
    others = [
        content_hash(images=changed, labels=labels),
        content_hash(images=images, labels=labels.astype(np.int32)),
        content_hash(images=images.reshape(7, 15), labels=labels),
        content_hash(images=images, label=labels),
        content_hash(images=images),
    ]
    assert len({expected, *others}) == 6


def test_arrays_are_those_of_numpy_and_cannot_be_written_to(tmp_path: Path) -> None:
    for array in (tagged(4, 3), np.arange(6.0).reshape(2, 3).T, np.array(3), np.array([], np.int64)):
        np.save(tmp_path / "a.npy", array)
        found = open_npy(tmp_path / "a.npy")
        assert np.array_equal(found, np.load(tmp_path / "a.npy"))
        assert found.dtype == array.dtype
        assert not found.flags.writeable


def test_rows_of_an_array_are_copies(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", tagged(9, 3))
    source = ArrayRows({"x": open_npy(tmp_path / "a.npy"), "label": np.arange(9)})
    assert len(source) == 9
    rows = source.read(2, 6)
    assert np.array_equal(rows["x"], tagged(9, 3)[2:6])
    assert rows["label"].tolist() == [2, 3, 4, 5]
    rows["x"][:], rows["label"][:] = 0, 0
    assert np.array_equal(source.read(2, 6)["x"], tagged(9, 3)[2:6])
    assert source.read(2, 6)["label"].tolist() == [2, 3, 4, 5]


def test_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "gone").symlink_to("nowhere")
    for name in ("none", "file/below", "a\0b"):
        assert stat_or_none(tmp_path / name) is None, name
        assert not is_folder(tmp_path / name)
        with pytest.raises(MissingError, match=r"no such file$"):
            check_regular(tmp_path / name)
    assert check_regular(tmp_path / "file").st_size == check_regular(tmp_path / "link").st_size == 5
    assert is_folder(tmp_path / "folder")
    assert not is_folder(tmp_path / "file")
    with pytest.raises(MissingError, match="a link to nowhere, which does not exist"):
        stat_or_none(tmp_path / "gone")
    assert names_in(tmp_path) == ["file", "folder", "gone", "link"]
    assert names_in(tmp_path / "folder") == names_in(tmp_path / "none") == names_in(tmp_path / "file") == []


def test_small_texts_are_read_with_a_mark_and_with_bytes_that_are_no_text(tmp_path: Path) -> None:
    for content, text in ((b"\xef\xbb\xbfa \xc3\xa9", "a é"), (b"a\xffb", "a\N{REPLACEMENT CHARACTER}b"), (b"", "")):
        (tmp_path / "t").write_bytes(content)
        assert read_text(tmp_path / "t") == text


@pytest.mark.parametrize("dtype", ["uint8", "int64", ">i4"])
def test_labels_are_one_class_a_row(dtype: str) -> None:
    path, labels = Path("labels"), np.array([0, 4, 2], dtype)
    assert checked_labels(path, labels, 3, "images", 5) is labels
    with pytest.raises(MissingError, match=r"^labels: label 4 at row 1; allowed: 0 to 3$"):
        checked_labels(path, labels, 3, "images", 4)
    with pytest.raises(MissingError, match=r"^labels: 3 labels, but images has 2 images"):
        checked_labels(path, labels, 2, "images", 5)
    for wrong in (labels[:, None], labels.astype(float), labels > 0):
        with pytest.raises(MissingError, match="labels must be one integer per row"):
            checked_labels(path, wrong, 3, "images", 5)
