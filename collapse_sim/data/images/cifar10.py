"""CIFAR-10 from .npy files or from its binary version. The Python version is pickled, and is not read for safety."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from collapse_sim.core.errors import MissingError
from collapse_sim.data.base import Info, RowSource
from collapse_sim.data.data_files import check_regular, checked_labels, content_hash, open_npy
from collapse_sim.data.held_out import held_out_index
from collapse_sim.data.images.image_rows import ImageRows, ImageSettings, image_info

CLASSES = 10
RECORD_BYTES = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes
ARRAYS = ("train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy")
BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")


class CIFAR10(ImageSettings):
    """50,000 photographs of 32x32 pixels and 10,000 held out: the official split (Krizhevsky 2009)."""

    kind: ClassVar[str] = "images"
    seeded: ClassVar[bool] = False
    hub: ClassVar[str] = "uoft-cs/cifar10"

    def inspect(self, folder: Path) -> Info:
        """Reads FOLDER/cifar10/{train,test}_{images,labels}.npy, or FOLDER/cifar-10-batches-bin."""
        images, labels, held_out_images, held_out_labels = _open(folder)
        fingerprint = content_hash(
            images=images,
            labels=labels.astype(np.int64),
            held_out_images=held_out_images,
            held_out_labels=held_out_labels.astype(np.int64),
        )
        return image_info(
            self, (3, 32, 32), pool=len(images), held_out=len(held_out_images), classes=CLASSES, fingerprint=fingerprint
        )

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        images, labels, held_out_images, held_out_labels = _open(folder)
        index = held_out_index(self, len(held_out_images))
        return (
            ImageRows(self, images, labels),
            ImageRows(self, held_out_images, held_out_labels, index),
        )


def _open(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images uint8 (n, 32, 32, 3) and labels (n,), first of the training set and then of the test set."""
    folder = folder.absolute()
    arrays, binary = folder / "cifar10", folder / "cifar-10-batches-bin"
    missing_files = {arrays: _missing(arrays, ARRAYS), binary: _missing(binary, BATCHES)}
    if not missing_files[arrays]:
        return _open_arrays(arrays)
    if not missing_files[binary]:
        return _open_binary(binary)
    for candidate, names, missing in (
        (arrays, ARRAYS, missing_files[arrays]),
        (binary, BATCHES, missing_files[binary]),
    ):
        if len(missing) < len(names):
            raise MissingError(f"cifar10: {candidate} lacks {', '.join(missing)}\n{_advice(folder)}")
    pickled = folder / "cifar-10-batches-py"
    if pickled.is_dir():
        raise MissingError(
            f"cifar10: {pickled} is the pickled version, which is not read: a pickle can run any code\n"
            f"{_advice(folder)}"
        )
    raise MissingError(
        f"cifar10: no data in {folder}\n"
        f"  looked in: {arrays} for {', '.join(ARRAYS)};\n"
        f"  {binary} for data_batch_1.bin to data_batch_5.bin, test_batch.bin\n{_advice(folder)}"
    )


def _missing(folder: Path, names: Sequence[str]) -> list[str]:
    return [name for name in names if not os.path.lexists(folder / name)]


def _open_arrays(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    parts = []
    for part in ("train", "test"):
        path = folder / f"{part}_images.npy"
        images = open_npy(path)
        if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3) or not len(images):
            raise MissingError(
                f"{path}: needed: uint8 of shape (N, 32, 32, 3), N > 0; "
                f"found {images.dtype.name} of shape {images.shape}"
            )
        labels_path = folder / f"{part}_labels.npy"
        parts += [images, checked_labels(labels_path, open_npy(labels_path), len(images), path.name, CLASSES)]
    return parts[0], parts[1], parts[2], parts[3]


def _open_binary(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    train = [_open_batch(folder / name) for name in BATCHES[:-1]]
    test_images, test_labels = _open_batch(folder / BATCHES[-1])
    images = np.concatenate([images for images, _ in train])
    labels = np.concatenate([labels for _, labels in train])
    return images, labels, test_images, test_labels


def _open_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    size = check_regular(path).st_size
    if size == 0 or size % RECORD_BYTES:
        raise MissingError(
            f"{path}: {size} bytes is not a multiple of the record size, {RECORD_BYTES} bytes: truncated? Get it again"
        )
    try:
        records = np.memmap(path, np.uint8, "r").reshape(-1, RECORD_BYTES)
    except OSError as error:
        raise MissingError(f"{path}: cannot be read: {error.strerror or error}") from None
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images, checked_labels(path, records[:, 0], len(images), path.name, CLASSES)


def _advice(folder: Path) -> str:
    """How to get the arrays with torchvision, which verifies the checksums of the pickles before it opens them."""
    return (
        "  put them there, name their folder with --data-dir or COLLAPSE_SIM_DATA, or have torchvision download and\n"
        "  convert them once with:\n"
        '  python -c "import numpy as np, pathlib; from torchvision.datasets import CIFAR10; '
        f"d = pathlib.Path({str(folder)!r}); (d / 'cifar10').mkdir(parents=True, exist_ok=True); "
        "[(np.save(d / f'cifar10/{n}_images.npy', c.data), "
        "np.save(d / f'cifar10/{n}_labels.npy', np.array(c.targets))) "
        "for n in ('train', 'test') for c in [CIFAR10(d, train=n == 'train', download=True)]]\""
    )
