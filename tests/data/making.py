"""Makes the tiny data files that the tests read, and reads them. Every row is unique: its number is in its first two
bytes."""

from __future__ import annotations

import gzip
import io
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from collapse_sim.core.errors import MissingError
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Columns, Data, FileData, Info

MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def tagged(rows: int, *shape: int, first: int = 0) -> np.ndarray:
    """Random uint8 (rows, *shape) whose row i starts with the two bytes of first + i."""
    images = np.random.default_rng(first + 1).integers(0, 256, (rows, *shape), np.uint8)
    flat = images.reshape(rows, -1)
    flat[:, 0], flat[:, 1] = np.divmod(np.arange(first, first + rows), 256)
    return images


def idx_bytes(array: np.ndarray, code: int = 0x08) -> bytes:
    header = bytes([0, 0, code, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


def write_mnist(folder: Path, *, train: int = 30, test: int = 12, zipped: bool = False, side: int = 28) -> None:
    """The four IDX files, with the labels 3, 4, 5 ... 9, 0, 1, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = (
        tagged(train, side, side),
        labels_of(train),
        tagged(test, side, side, first=1000),
        labels_of(test),
    )
    for name, array in zip(MNIST_FILES, arrays, strict=True):
        content = idx_bytes(array)
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def labels_of(rows: int) -> np.ndarray:
    return ((np.arange(rows) + 3) % 10).astype(np.uint8)


def write_cifar_arrays(
    folder: Path, images: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (
        ("train_images", images),
        ("train_labels", labels),
        ("test_images", test),
        ("test_labels", test_labels),
    ):
        np.save(folder / f"{name}.npy", array)


def write_cifar_binary(
    folder: Path, images: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
) -> None:
    """The five training batches and the test batch; images are (n, 32, 32, 3)."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = zip(np.array_split(images, 5), np.array_split(labels, 5), strict=True)
    for number, (part, part_labels) in enumerate(parts, 1):
        (folder / f"data_batch_{number}.bin").write_bytes(_records(part, part_labels))
    (folder / "test_batch.bin").write_bytes(_records(test, test_labels))


def _records(images: np.ndarray, labels: np.ndarray) -> bytes:
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels[:, None].astype(np.uint8), planes], axis=1).tobytes()


def write_pictures(folder: Path, images: np.ndarray, suffix: str = ".png") -> list[Path]:
    """One file a row, named 0000.png, 0001.png ..."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{row:04}{suffix}" for row in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


HEIGHT, WIDTH = 218, 178  # of CelebA
PARTS = (0, 0, 1, 2, 0, 2, 0, 0, 1, 0, 2, 0)  # train, valid or test of the files 000001.png ...


def write_celeba(folder: Path, parts: Sequence[int] = PARTS) -> Path:
    """torchvision's layout, with the grey level 10 i (of 256) on the whole of the i-th face; PNG keeps it."""
    images = folder / "img_align_celeba"
    images.mkdir(parents=True)
    for number in range(1, len(parts) + 1):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 10 * number % 256, np.uint8)).save(images / f"{number:06}.png")
    lines = [f"{number:06}.png {part}\n" for number, part in enumerate(parts, 1)]
    (folder / "list_eval_partition.txt").write_text("".join(lines))
    return folder


def rows_of(data: FileData, folder: Path) -> list[Columns]:
    """All real rows, and all held-out rows."""
    return [source.read(0, len(source)) for source in data.open(folder)]


def row_bytes(images: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in images}


def check_columns(info: Info, columns: Columns, rows: int) -> None:
    """Columns are what `inspect` promised."""
    assert set(columns) == set(info.columns)
    for name, (shape, dtype) in info.columns.items():
        assert columns[name].shape == (rows, *shape)
        assert columns[name].dtype == dtype
    if info.classes:
        assert columns["label"].min() >= 0
        assert columns["label"].max() < info.classes


def message_of(data: Data, folder: Path, error: type[Exception] = MissingError) -> str:
    """What inspecting says."""
    with pytest.raises(error) as caught:
        data.inspect(folder)
    return str(caught.value)


def draws(*seeds: int, stacked: bool = False) -> Draws:
    """What real rows of simulated data are drawn from."""
    return Draws(seeds, "real", 0, dtype=torch.float64, stacked=stacked)


# Encoded photographs.


def photo() -> Image.Image:
    from sklearn.datasets import load_sample_images

    return Image.fromarray(load_sample_images().images[0][100:300, 200:440])


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def middle(content: bytes, length: int) -> bytes:
    """With zeros in the middle."""
    first = len(content) // 2
    return content[:first] + bytes(length) + content[first + length :]


def oriented(tag: int, kind: str) -> bytes:
    return encoded(photo().resize((24, 40)), kind, exif=oriented_exif(tag))


def oriented_exif(tag: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = tag
    return exif


# What may lie in the place of a file, and what is said of it.


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


STRANGE: list[tuple[Callable[[Path], None], str]] = [
    (_fifo, "a named pipe"),
    (_socket, "a socket"),
    (Path.mkdir, "a folder"),
    (_nowhere, "a link to nowhere, which does not exist"),
    (_loop, ""),
]
