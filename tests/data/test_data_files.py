"""Strict reading: whatever lies in the place of a file, it is named, and nothing but a file is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from collapse_sim.data.images.celeba import CelebA
from collapse_sim.data.images.cifar10 import CIFAR10
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.data.images.mnist import MNIST
from collapse_sim.data.point_files import PointFiles

from .making import (
    STRANGE,
    labels_of,
    message_of,
    tagged,
    write_celeba,
    write_cifar_arrays,
    write_mnist,
)


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


def test_a_name_that_is_too_long_for_a_file(tmp_path: Path) -> None:
    for name in ("x" * 300, "x" * 300 + ".npy"):
        assert "File name too long" in message_of(ImageFolder(path=name), tmp_path)
