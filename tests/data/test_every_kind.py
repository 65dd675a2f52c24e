"""Held-out rows are never among the rows to train on, for every kind of data, and no row is lost or doubled.

Covers the kinds of images/ from files, and of toys/ the plainest two; texts are in text/test_texts.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from collapse_sim.core.randomness import Draws
from collapse_sim.core.registry import BUILT_IN
from collapse_sim.data.base import Data, FileData
from collapse_sim.data.images.celeba import CelebA
from collapse_sim.data.images.cifar10 import CIFAR10
from collapse_sim.data.images.digits import Digits
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.data.images.mnist import MNIST, FashionMNIST
from collapse_sim.data.toys.gaussian_points import GaussianPoints
from collapse_sim.data.toys.linear_data import LinearData

from .making import (
    check_columns,
    labels_of,
    row_bytes,
    rows_of,
    tagged,
    write_celeba,
    write_cifar_arrays,
    write_cifar_binary,
    write_mnist,
    write_pictures,
)


def _mnist(folder: Path) -> FileData:
    write_mnist(folder / "MNIST" / "raw")
    return MNIST()


def _fashion(folder: Path) -> FileData:
    write_mnist(folder / "FashionMNIST" / "raw", zipped=True)
    return FashionMNIST()


def _cifar_arrays(folder: Path) -> FileData:
    write_cifar_arrays(folder / "cifar10", *_cifar())
    return CIFAR10()


def _cifar_binary(folder: Path) -> FileData:
    write_cifar_binary(folder / "cifar-10-batches-bin", *_cifar())
    return CIFAR10()


def _cifar() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return tagged(30, 32, 32, 3), labels_of(30), tagged(12, 32, 32, 3, first=1000), labels_of(12)


def _pictures(folder: Path) -> FileData:
    write_pictures(folder / "pictures", tagged(42, 6, 6, 3))
    return ImageFolder(path="pictures", held_out=12)


def _array(folder: Path) -> FileData:
    np.save(folder / "pictures.npy", tagged(42, 6, 6))
    return ImageFolder(path="pictures.npy", held_out=12)


def _celeba(folder: Path) -> FileData:
    root = write_celeba(folder / "celeba", [2 if number % 7 in (1, 4) else 0 for number in range(42)])
    for path, image in zip(sorted((root / "img_align_celeba").iterdir()), tagged(42, 6, 6, 3), strict=True):
        Image.fromarray(image).save(path)
    return CelebA(crop=None, size=None)


@pytest.mark.parametrize("make", [_mnist, _fashion, _cifar_arrays, _cifar_binary, _celeba, _pictures, _array])
@pytest.mark.parametrize("cap", [None, 5])
def test_file_data_is_split_without_overlap(make: Any, cap: Any, tmp_path: Path) -> None:
    data = make(tmp_path).model_copy(update={"held_out_rows": cap})
    info = data.inspect(tmp_path)
    train, held_out = rows_of(data, tmp_path)
    train_rows, held_out_rows = row_bytes(train["image"]), row_bytes(held_out["image"])
    assert len(train_rows) == info.pool == info.rows == 30
    assert len(held_out_rows) == info.held_out == (cap or 12)
    assert not train_rows & held_out_rows
    check_columns(info, train, info.pool)
    check_columns(info, held_out, info.held_out)


@pytest.mark.parametrize("data", [GaussianPoints(dimensions=3), LinearData(dimensions=3)])
def test_simulated_parts_are_drawn_apart(data: Any) -> None:
    """Real and held-out rows come from draws of two roles, as the engine asks for them."""
    parts = [data.simulate(50, Draws((0,), role, 0, dtype=torch.float64))["x"].numpy() for role in ("real", "held_out")]
    assert not row_bytes(parts[0]) & row_bytes(parts[1])


@pytest.mark.parametrize("make", [_mnist, _cifar_arrays, _pictures])
def test_rows_leaves_a_reserve(make: Any, tmp_path: Path) -> None:
    """`rows` lowers what generation 0 is fitted to; the rows themselves and the held-out ones stay the same."""
    data = make(tmp_path)
    fewer = data.model_copy(update={"rows": 7})
    info = fewer.inspect(tmp_path)
    assert (info.rows, info.pool, info.held_out) == (7, 30, 12)
    for whole, part in zip(rows_of(data, tmp_path), rows_of(fewer, tmp_path), strict=True):
        assert np.array_equal(whole["image"], part["image"])


@pytest.mark.parametrize("data", [Digits(), MNIST(), FashionMNIST(), CIFAR10()])
def test_contract(data: Any) -> None:
    assert isinstance(data, Data)
    assert data.kind == "images"
    assert not data.seeded
    assert data.describe()["use"] in BUILT_IN["data"]
