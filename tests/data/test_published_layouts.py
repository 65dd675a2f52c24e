"""MNIST and CelebA under the other names and in the other folders in which they are handed on."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from collapse_sim.data.images.celeba import CelebA
from collapse_sim.data.images.mnist import MNIST

from .making import MNIST_FILES, rows_of, write_celeba, write_mnist
from .test_data_errors import message_of


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


def _kaggle(root: Path) -> None:
    images = root / "img_align_celeba"
    (root / "x").mkdir()
    images.rename(root / "x" / "img_align_celeba")
    (root / "x").rename(images)
    path = root / "list_eval_partition.txt"
    lines = ["image_id,partition", *path.read_text().replace(" ", ",").splitlines()]
    path.with_suffix(".csv").write_text("\r\n".join(lines))
    path.unlink()


def _mark(root: Path) -> None:
    path = root / "list_eval_partition.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def _other_endings(root: Path) -> None:
    path = root / "list_eval_partition.txt"
    path.write_text(path.read_text().replace(".png", ".jpg"))


@pytest.mark.parametrize("change", [_kaggle, _mark, _other_endings])
def test_celeba(change: Callable[[Path], None], tmp_path: Path) -> None:
    write_celeba(tmp_path / "plain")
    change(write_celeba(tmp_path / "other"))
    plain, other = CelebA(path="plain"), CelebA(path="other")
    assert other.inspect(tmp_path) == plain.inspect(tmp_path)
    for ours, theirs in zip(rows_of(other, tmp_path), rows_of(plain, tmp_path), strict=True):
        assert np.array_equal(ours["image"], theirs["image"])
    deeper = "other/img_align_celeba/img_align_celeba" if change is _kaggle else "other/img_align_celeba"
    assert CelebA(path=deeper).inspect(tmp_path) == plain.inspect(tmp_path)


def test_some_files_with_another_ending_are_no_other_copy(tmp_path: Path) -> None:
    root = write_celeba(tmp_path / "celeba")
    path = root / "img_align_celeba" / "000003.png"
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()
    assert "lacks 1 of the 12 images in list_eval_partition.txt, such as 000003.png" in message_of(CelebA(), tmp_path)


def test_a_csv_of_another_kind(tmp_path: Path) -> None:
    root = write_celeba(tmp_path / "celeba")
    (root / "list_eval_partition.txt").unlink()
    (root / "list_eval_partition.csv").write_text("image_id,partition\n000001.png 0\n")
    assert "line 2 is '000001.png 0'; needed: a file and its part" in message_of(CelebA(), tmp_path)
