"""cifar10: both layouts, labels that stay with their images, and files that are missing or damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from collapse_sim.data.images.cifar10 import CIFAR10
from tests.data.making import labels_of, message_of, rows_of, tagged, write_cifar_arrays, write_cifar_binary


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


def _cifar() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return tagged(10, 32, 32, 3), labels_of(10), tagged(5, 32, 32, 3, first=1000), labels_of(5)


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
