"""MNIST and Fashion-MNIST from their IDX files, plain or gzipped, in torchvision's layout or in a plain folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from collapse_sim.core.errors import MissingError
from collapse_sim.data.base import Info, RowSource
from collapse_sim.data.data_files import check_regular, checked_labels, content_hash
from collapse_sim.data.held_out import held_out_index
from collapse_sim.data.images.idx import read_idx
from collapse_sim.data.images.image_rows import ImageRows, ImageSettings, image_info

CLASSES = 10
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class _Set(NamedTuple):
    """One of the data sets that share this format and these file names."""

    name: str  # in a recipe
    title: str  # torchvision's class, and the name of its folder
    first_labels: tuple[int, ...]  # of the training set: they distinguish files of the same names


_MNIST = _Set("mnist", "MNIST", (5, 0, 4, 1, 9, 2, 1, 3, 1, 4))
_FASHION = _Set("fashion_mnist", "FashionMNIST", (9, 0, 0, 3, 0, 2, 7, 2, 5, 5))


class MNIST(ImageSettings):
    """60,000 handwritten digits of 28x28 pixels and 10,000 held out: the official split (LeCun et al. 1998)."""

    kind: ClassVar[str] = "images"
    seeded: ClassVar[bool] = False
    hub: ClassVar[str] = "ylecun/mnist"

    def inspect(self, folder: Path) -> Info:
        """Reads FOLDER/MNIST/raw, FOLDER/MNIST, FOLDER/mnist or FOLDER: the first match."""
        return _inspect(self, folder, _MNIST)

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        return _rows(self, folder, _MNIST)


class FashionMNIST(ImageSettings):
    """60,000 pictures of clothes, 28x28 pixels, and 10,000 held out: the official split (Xiao et al. 2017)."""

    kind: ClassVar[str] = "images"
    seeded: ClassVar[bool] = False
    hub: ClassVar[str] = "zalando-datasets/fashion_mnist"

    def inspect(self, folder: Path) -> Info:
        """Reads FOLDER/FashionMNIST/raw, FOLDER/FashionMNIST, FOLDER/fashion_mnist or FOLDER: the first match."""
        return _inspect(self, folder, _FASHION)

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        return _rows(self, folder, _FASHION)


def _inspect(settings: ImageSettings, folder: Path, which: _Set) -> Info:
    images, labels, held_out_images, held_out_labels = _open(folder, which)
    _, height, width = images.shape
    fingerprint = content_hash(
        images=images, labels=labels, held_out_images=held_out_images, held_out_labels=held_out_labels
    )
    return image_info(
        settings,
        (1, height, width),
        pool=len(images),
        held_out=len(held_out_images),
        classes=CLASSES,
        fingerprint=fingerprint,
    )


def _rows(settings: ImageSettings, folder: Path, which: _Set) -> tuple[RowSource, RowSource]:
    images, labels, held_out_images, held_out_labels = _open(folder, which)
    index = held_out_index(settings, len(held_out_images))
    return (
        ImageRows(settings, images[..., None], labels),
        ImageRows(settings, held_out_images[..., None], held_out_labels, index),
    )


def _open(folder: Path, which: _Set) -> tuple[np.ndarray, ...]:
    """The four arrays in the order of FILES: images uint8 (n, H, W), labels uint8 (n,)."""
    paths = _find(folder.absolute(), which)
    arrays = []
    for images_path, labels_path in (paths[:2], paths[2:]):
        images = read_idx(images_path, dimensions=3)
        labels = read_idx(labels_path, dimensions=1)
        arrays += [images, checked_labels(labels_path, labels, len(images), images_path.name, CLASSES)]
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        (_, *train), (_, *held_out) = arrays[0].shape, arrays[2].shape
        raise MissingError(
            f"{paths[2]}: images of {held_out[0]}x{held_out[1]} pixels, but those of {paths[0].name} have "
            f"{train[0]}x{train[1]}: one of them belongs to another data set"
        )
    other = _FASHION if which is _MNIST else _MNIST
    if tuple(arrays[1][: len(other.first_labels)]) == other.first_labels:
        own_place = folder.absolute() / which.title / "raw"
        raise MissingError(
            f"{which.name}: the files in {paths[1].parent} are those of {other.name}, which have the same names: "
            f"put the files of {which.name} into {own_place}, or set `data: {{use: {other.name}}}`"
        )
    return tuple(arrays)


def _find(folder: Path, which: _Set) -> list[Path]:
    """The paths of the four files, all from the first folder that has them; plain files before gzipped ones."""
    candidates = [folder / which.title / "raw", folder / which.title, folder / which.name, folder]
    paths_by_folder = {candidate: [_existing_path(candidate, name) for name in FILES] for candidate in candidates}
    for paths in paths_by_folder.values():
        existing = [path for path in paths if path]
        if len(existing) == len(FILES):
            return existing
    for candidate, paths in paths_by_folder.items():
        if any(paths):
            missing = ", ".join(name for name, path in zip(FILES, paths, strict=True) if not path)
            raise MissingError(f"{which.name}: {candidate} lacks {missing} (or with .gz)\n{_advice(folder, which)}")
    raise MissingError(
        f"{which.name}: no data in {folder}\n"
        f"  looked in: {', '.join(str(candidate) for candidate in candidates)}\n"
        f"  for: {', '.join(FILES)} (each also with .gz)\n{_advice(folder, which)}"
    )


def _existing_path(folder: Path, name: str) -> Path | None:
    """The path of the file `name`, also spelled train-images.idx3-ubyte or in a folder of the same name; or None.

    If there is only something else (a pipe, a broken link), returns its path: reading it then reports the problem.
    """
    irregular = None
    for file_name in (name, name.replace("-idx", ".idx")):
        for path in (folder / file_name, folder / f"{file_name}.gz"):
            for inner in (path, path / file_name):
                if os.path.lexists(inner):
                    try:
                        check_regular(inner)
                    except MissingError:
                        irregular = irregular or inner
                    else:
                        return inner
    return irregular


def _advice(folder: Path, which: _Set) -> str:
    return (
        "  put them there, name their folder with --data-dir or COLLAPSE_SIM_DATA, or download them once with:\n"
        f'  python -c "from torchvision.datasets import {which.title}; {which.title}({str(folder)!r}, download=True)"'
    )
