"""IDX files: arrays as torchvision reads them, and files that are not what they say."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from collapse_sim.data.images.mnist import MNIST
from tests.data.making import (
    idx_bytes,
    labels_of,
    message_of,
    tagged,
    write_mnist,
)

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
