"""Data or a device that is missing or unreadable: exit 3 before any work, naming the file and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.making import MNIST_FILES, idx_bytes, write_mnist, write_pictures

DIGITS = "use: digits, rows: 200, held_out_rows: 50"
MNIST = (DIGITS, "use: mnist, rows: 20, held_out_rows: 10")
FOLDER = (DIGITS, "use: image_folder, path: pictures")
ARRAY = (DIGITS, "use: image_folder, path: pictures.npy")


@pytest.mark.parametrize("options", [[], ["--data-dir", "elsewhere"]])
def test_missing_data(shell, recipe, options):
    folder = shell.root / ("elsewhere" if options else "data")
    text = shell.refused("run", recipe(MNIST), *options, code=3)
    assert text.startswith(f"error: mnist: no data in {folder}\n")
    assert f"looked in: {folder}/MNIST/raw, {folder}/MNIST, {folder}/mnist, {folder}\n" in text
    assert all(name in text for name in MNIST_FILES)
    assert "name their folder with --data-dir or COLLAPSE_SIM_DATA, or download them once with:\n" in text
    assert f"from torchvision.datasets import MNIST; MNIST('{folder}', download=True)" in text


def test_missing_data_named_by_the_environment(shell, recipe, monkeypatch):
    monkeypatch.setenv("COLLAPSE_SIM_DATA", "/nowhere")
    assert "mnist: no data in /nowhere\n" in shell.refused("run", recipe(MNIST), code=3)


def cut(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:-5])

    return spoil


def put(name: str, array: np.ndarray, code: int = 0x08) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(idx_bytes(array, code)) and None


IDX = {
    "truncated": (
        cut(MNIST_FILES[0]),
        "train-images-idx3-ubyte: truncated: 23531 bytes, but its header (30x28x28) needs 23536: get it again",
    ),
    "empty": (
        lambda folder: (folder / MNIST_FILES[1]).write_bytes(b"") and None,
        "train-labels-idx1-ubyte: not an IDX file",
    ),
    "one file missing": (lambda folder: (folder / MNIST_FILES[3]).unlink(), "MNIST/raw lacks t10k-labels-idx1-ubyte"),
    "shape": (put(MNIST_FILES[2], np.zeros((12, 28), np.uint8)), "t10k-images-idx3-ubyte: has 2 dimensions; needed: 3"),
    "dtype": (
        put(MNIST_FILES[2], np.zeros((12, 28, 28), np.float32), 0x0D),
        "t10k-images-idx3-ubyte: holds float32; allowed: uint8 (type code 08)",
    ),
    "number of labels": (
        put(MNIST_FILES[1], np.zeros(29, np.uint8)),
        "train-labels-idx1-ubyte: 29 labels, but train-images-idx3-ubyte has 30 images: one of them belongs to another "
        "data set",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), IDX.values(), ids=IDX)
def test_idx_files(shell, recipe, spoil, message):
    folder = shell.root / "data" / "MNIST" / "raw"
    write_mnist(folder)
    spoil(folder)
    text = shell.refused("run", recipe(MNIST), code=3)
    assert message in text
    assert str(folder) in text


ARRAYS = {
    "dtype": (np.zeros((10, 8, 8), np.float32), "found float32 of shape (10, 8, 8): scale the values to 0..255"),
    "channels first": (np.zeros((10, 3, 8, 8), np.uint8), "found uint8 of shape (10, 3, 8, 8): channels come last"),
    "shape": (
        np.zeros(10, np.uint8),
        "needed: uint8 of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3); found uint8 of shape",
    ),
    "no rows": (np.zeros((0, 8, 8), np.uint8), "found uint8 of shape (0, 8, 8): it is empty"),
    "pickled": (
        np.array([{}, {}], dtype=object),
        "not a readable .npy array (Array can't be memory-mapped: Python objects",
    ),
}


@pytest.mark.parametrize(("array", "message"), ARRAYS.values(), ids=ARRAYS)
def test_arrays(shell, recipe, array, message):
    path = shell.root / "data" / "pictures.npy"
    path.parent.mkdir()
    np.save(path, array)
    text = shell.refused("run", recipe(ARRAY), code=3)
    assert text.startswith(f"error: {path}: ")
    assert message in text


def test_no_image_folder(shell, recipe):
    text = shell.refused("run", recipe(FOLDER), code=3)
    assert f"image_folder: no folder {shell.root}/data/pictures: set `data.path` to a folder of image files" in text


def test_an_empty_image_folder(shell, recipe):
    (shell.root / "data" / "pictures").mkdir(parents=True)
    text = shell.refused("run", recipe(FOLDER), code=3)
    assert f"image_folder: no images in {shell.root}/data/pictures: needed: files ending in .png, .jpg, .jpeg" in text


def test_unreadable_images_are_named(shell, recipe):
    folder = shell.root / "data" / "pictures"
    paths = write_pictures(folder, np.random.default_rng(0).integers(0, 255, (9, 8, 8)).astype(np.uint8))
    paths[2].write_bytes(b"no picture")
    paths[5].write_bytes(paths[5].read_bytes()[:40])
    text = shell.refused("run", recipe(FOLDER), code=3)
    assert f"image_folder: 2 unreadable images in {folder}: replace or remove them\n" in text
    assert "\n  0002.png (not an image of these formats: PNG, JPEG, WEBP, BMP, TIFF, GIF)\n" in text
    assert "\n  0005.png (" in text


@pytest.mark.parametrize(("device", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:7", 1)])
def test_a_cuda_device_that_is_not_there(shell, recipe, monkeypatch, device, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    text = shell.refused("run", recipe(), "--device", device, code=3)
    seen = "1 CUDA device;" if count == 1 else "0 CUDA devices;"
    assert f"error: --device {device}: not there, found {seen} use --device cpu, or a machine with one\n" in text
