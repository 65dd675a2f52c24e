"""IDX files: arrays as torchvision reads them, and files that are not what they say."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from collapse_sim.core.errors import MissingError
from collapse_sim.data.images.idx import TYPES, read_idx
from collapse_sim.data.images.mnist import MNIST
from tests.data.making import idx_bytes, labels_of, message_of, tagged, write_mnist

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


@pytest.mark.parametrize("shape", [(5,), (300, 2), (2, 3, 259)])
@pytest.mark.parametrize("zipped", [False, True])
def test_arrays_are_those_of_torchvision(shape: tuple[int, ...], zipped: bool, tmp_path: Path) -> None:
    """Sizes of more than a byte among them; a plain file stays on disk."""
    reference = pytest.importorskip("torchvision.datasets.mnist")
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    (tmp_path / "plain").write_bytes(idx_bytes(array))
    (tmp_path / "zipped.gz").write_bytes(gzip.compress(idx_bytes(array)))
    found = read_idx(tmp_path / ("zipped.gz" if zipped else "plain"), len(shape))
    assert np.array_equal(found, array)
    assert np.array_equal(found, reference.read_sn3_pascalvincent_tensor(str(tmp_path / "plain")).numpy())
    assert isinstance(found, np.memmap) != zipped
    assert not found.flags.writeable


def test_other_types_are_called_as_torchvision_calls_them(tmp_path: Path) -> None:
    reference = pytest.importorskip("torchvision.datasets.mnist").SN3_PASCALVINCENT_TYPEMAP
    assert {code: f"torch.{name}" for code, name in TYPES.items()} == {code: str(t) for code, t in reference.items()}
    for code in set(TYPES) - {0x08}:
        (tmp_path / "x").write_bytes(idx_bytes(np.zeros(8, np.uint8), code))
        with pytest.raises(MissingError, match=rf"holds {TYPES[code]}; allowed: uint8"):
            read_idx(tmp_path / "x", 1)


def test_no_byte_may_be_missing_or_too_many(tmp_path: Path) -> None:
    content = idx_bytes(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for length in range(len(content) + 3):
        (tmp_path / "x").write_bytes((content + bytes(3))[:length])
        if length == len(content):
            assert read_idx(tmp_path / "x", 2).tolist() == [[0, 1, 2], [3, 4, 5]]
            continue
        with pytest.raises(MissingError, match="truncated|not an IDX file" if length < len(content) else "too long"):
            read_idx(tmp_path / "x", 2)
