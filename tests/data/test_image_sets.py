"""digits, mnist, fashion_mnist, cifar10: layouts, labels that stay with their images, and content keys."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

from collapse_sim.core.registry import BUILT_IN
from collapse_sim.data.base import Data
from collapse_sim.data.images.cifar10 import CIFAR10
from collapse_sim.data.images.digits import Digits
from collapse_sim.data.images.mnist import MNIST, FashionMNIST

from .making import MNIST_FILES, labels_of, rows_of, tagged, write_cifar_arrays, write_cifar_binary, write_mnist


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("reading data must not touch the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


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
def test_idx_files_are_found_in_every_layout(data, place: str, zipped: bool, tmp_path: Path) -> None:
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


def test_a_capped_held_out_set_keeps_labels_and_covers_the_whole(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", test=200)
    _, held_out = rows_of(MNIST(held_out_rows=60), tmp_path)
    flat = held_out["image"].reshape(60, -1).astype(int)
    rows = flat[:, 0] * 256 + flat[:, 1] - 1000
    assert np.array_equal(held_out["label"], labels_of(200)[rows])
    assert (np.diff(rows) > 0).all()
    assert 10 < (rows < 100).sum() < 50  # not the first rows only


def test_cifar_layouts_give_the_same_rows_and_key(tmp_path: Path) -> None:
    parts = (tagged(25, 32, 32, 3), labels_of(25), tagged(8, 32, 32, 3, first=1000), labels_of(8))
    write_cifar_arrays(tmp_path / "a" / "cifar10", parts[0], parts[1].astype(np.int64), *parts[2:])
    write_cifar_binary(tmp_path / "b" / "cifar-10-batches-bin", *parts)
    assert CIFAR10().inspect(tmp_path / "a") == CIFAR10().inspect(tmp_path / "b")
    for folder in ("a", "b"):
        train, held_out = rows_of(CIFAR10(), tmp_path / folder)
        assert np.array_equal(train["image"], parts[0].transpose(0, 3, 1, 2))
        assert np.array_equal(train["label"], parts[1])
        assert np.array_equal(held_out["image"], parts[2].transpose(0, 3, 1, 2))
        assert np.array_equal(held_out["label"], parts[3])


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


def test_digits_are_stratified_and_never_change(tmp_path: Path) -> None:
    train, held_out = rows_of(Digits(), tmp_path)
    share = np.bincount(held_out["label"]) / np.bincount(np.concatenate([train["label"], held_out["label"]]))
    assert np.abs(share - 360 / 1797).max() < 0.005
    assert (train["image"].min(), train["image"].max()) == (0, 255)
    # The split is part of what a published result means: if scikit-learn ever splits in another way, this must fail.
    assert Digits().inspect(tmp_path).fingerprint[:16] == "3b5934528b158db6"


def test_digits_labels_belong_to_their_images(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    source = load_digits()
    label = {
        np.rint(row * 255 / 16).astype(np.uint8).tobytes(): target
        for row, target in zip(source.data, source.target, strict=True)
    }
    for part in rows_of(Digits(), tmp_path):
        assert [label[image.tobytes()] for image in part["image"]] == part["label"].tolist()


@pytest.mark.parametrize("data", [Digits(), MNIST(), FashionMNIST(), CIFAR10()])
def test_contract(data) -> None:
    assert isinstance(data, Data)
    assert data.kind == "images"
    assert not data.seeded
    assert data.describe()["use"] in BUILT_IN["data"]
