"""mnist and fashion_mnist: layouts, labels that stay with their images, content keys, and missing files."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collapse_sim.data.images.mnist import MNIST, FashionMNIST
from tests.data.making import MNIST_FILES, idx_bytes, labels_of, message_of, rows_of, tagged, write_mnist


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (MNIST(), "MNIST/raw"),
        (MNIST(), "mnist"),
        (MNIST(), "."),
        (FashionMNIST(), "FashionMNIST/raw"),
        (FashionMNIST(), "fashion_mnist"),
        (FashionMNIST(), "."),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_found_in_every_layout(data: Any, place: str, zipped: bool, tmp_path: Path) -> None:
    write_mnist(tmp_path / place, zipped=zipped)
    train, held_out = rows_of(data, tmp_path)
    assert np.array_equal(train["image"], tagged(30, 1, 28, 28))
    assert np.array_equal(train["label"], labels_of(30))
    assert np.array_equal(held_out["image"], tagged(12, 1, 28, 28, first=1000))
    assert np.array_equal(held_out["label"], labels_of(12))


def test_idx_files_agree_with_torchvision(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision.datasets")
    write_mnist(tmp_path / "MNIST" / "raw")
    theirs = torchvision.MNIST(tmp_path, train=True)
    train, _ = rows_of(MNIST(), tmp_path)
    assert np.array_equal(train["image"][:, 0], theirs.data.numpy())
    assert np.array_equal(train["label"], theirs.targets.numpy())


def test_a_whole_folder_wins_over_a_partial_one(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / MNIST_FILES[0]).unlink()
    write_mnist(tmp_path / "mnist", train=9)
    assert MNIST().inspect(tmp_path).pool == 9


def dotted(name: str) -> str:
    return name.replace("-idx", ".idx")


LAYOUTS: dict[str, Callable[[str], str]] = {
    "torchvision's": lambda name: f"MNIST/raw/{name}",
    "without raw": lambda name: f"MNIST/{name}",
    "dots": dotted,
    "dots, zipped": lambda name: f"mnist/{dotted(name)}.gz",
    "a folder around each file": lambda name: f"{name}/{name}",
    "a folder around each file, with a dot": lambda name: f"mnist/{dotted(name)}/{dotted(name)}",
    "zipped, unpacked into a folder called .gz": lambda name: f"{name}.gz/{name}",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mnist(layout: str, tmp_path: Path) -> None:
    write_mnist(tmp_path / "plain")
    for name in MNIST_FILES:
        path = tmp_path / "other" / LAYOUTS[layout](name)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = (tmp_path / "plain" / name).read_bytes()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    assert MNIST().inspect(tmp_path / "other") == MNIST().inspect(tmp_path / "plain")
    for ours, theirs in zip(rows_of(MNIST(), tmp_path / "other"), rows_of(MNIST(), tmp_path / "plain"), strict=True):
        assert np.array_equal(ours["image"], theirs["image"])
        assert np.array_equal(ours["label"], theirs["label"])


def test_a_capped_held_out_set_keeps_labels_and_covers_the_whole(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", test=200)
    _, held_out = rows_of(MNIST(held_out_rows=60), tmp_path)
    flat = held_out["image"].reshape(60, -1).astype(int)
    rows = flat[:, 0] * 256 + flat[:, 1] - 1000
    assert np.array_equal(held_out["label"], labels_of(200)[rows])
    assert (np.diff(rows) > 0).all()
    assert 10 < (rows < 100).sum() < 50  # not the first rows only


def test_zipping_keeps_the_key_and_a_changed_byte_changes_it(tmp_path: Path) -> None:
    write_mnist(tmp_path / "a")
    write_mnist(tmp_path / "b", zipped=True)
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    for name in MNIST_FILES:
        path = tmp_path / "c" / name
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        original = path.read_bytes()
        path.write_bytes(content)
        assert MNIST().inspect(tmp_path / "c").fingerprint != MNIST().inspect(tmp_path / "a").fingerprint, name
        path.write_bytes(original)
    prints = {MNIST().inspect(tmp_path / folder).fingerprint for folder in "abc"}
    assert len(prints) == 1
    assert len(prints.pop()) == 64


@pytest.mark.parametrize(
    ("data", "title", "name"), [(MNIST(), "MNIST", "mnist"), (FashionMNIST(), "FashionMNIST", "fashion_mnist")]
)
def test_missing_idx_files(data: Any, title: str, name: str, tmp_path: Path) -> None:
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
