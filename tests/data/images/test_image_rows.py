"""`crop`, `size` and `fit`: the pixels are those of Pillow and torchvision; and settings that do not fit the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from collapse_sim.core.errors import RecipeError
from collapse_sim.data.images.digits import Digits
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.data.images.image_rows import ImageRows, ImageSettings
from collapse_sim.data.images.mnist import MNIST
from tests.data.making import message_of, rows_of, tagged, write_mnist, write_pictures


@pytest.mark.parametrize("size", [32, 14, 20])
@pytest.mark.parametrize("channels", [1, 3])
def test_resize_is_pillows_and_torchvisions(size: int, channels: int) -> None:
    images = tagged(5, 28, 28, channels)
    ours = ImageRows(ImageSettings(size=size), images).read(0, 5)["image"]
    assert ours.shape == (5, channels, size, size)
    for image, result in zip(images, ours, strict=True):
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        pillow = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)).reshape(size, size, channels)
        assert np.array_equal(result, pillow.transpose(2, 0, 1))
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    theirs = F.resize(tensor, [size, size], InterpolationMode.BILINEAR, antialias=True).numpy()
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_pad_is_centred_with_zeros() -> None:
    images = tagged(3, 28, 28, 1)
    padded = ImageRows(ImageSettings(size=32, fit="pad"), images).read(0, 3)["image"]
    assert np.array_equal(padded[:, :, 2:30, 2:30], images.transpose(0, 3, 1, 2))
    assert padded.sum() == images.sum()
    odd = ImageRows(ImageSettings(size=31, fit="pad"), images).read(0, 3)["image"]  # one pixel before, two after
    assert np.array_equal(odd[:, :, 1:29, 1:29], images.transpose(0, 3, 1, 2))


def test_a_picture_that_is_not_square_keeps_its_proportions(tmp_path: Path) -> None:
    """A circle stays a circle: the central square is resized."""
    y, x = np.mgrid[:60, :100]
    disc = (((x - 49.5) ** 2 + (y - 29.5) ** 2) < 20**2).astype(np.uint8) * 255
    for name in ("a.png", "b.png"):
        Image.fromarray(disc).save(tmp_path / name)
    data = ImageFolder(path=".", size=30)
    assert data.inspect(tmp_path).shape("image") == (1, 30, 30)
    image = rows_of(data, tmp_path)[0]["image"][0, 0] > 127
    assert image.any(axis=0).sum() == image.any(axis=1).sum() == 20


@pytest.mark.parametrize("fit", ["resize", "pad"])
def test_mnist_at_32(fit: str, tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist")
    data = MNIST(size=32, fit=fit)
    assert data.inspect(tmp_path).shape("image") == (1, 32, 32)
    for part in rows_of(data, tmp_path):
        assert part["image"].shape[1:] == (1, 32, 32)
        assert part["image"].flags.c_contiguous


def test_size_does_not_change_which_rows_are_where(tmp_path: Path) -> None:
    plain, padded = rows_of(Digits(), tmp_path), rows_of(Digits(size=10, fit="pad"), tmp_path)
    for a, b in zip(plain, padded, strict=True):
        assert np.array_equal(a["image"], b["image"][:, :, 1:9, 1:9])
        assert np.array_equal(a["label"], b["label"])


@pytest.mark.parametrize(("height", "width", "crop"), [(9, 7, 5), (8, 9, 4), (6, 6, 6)])
def test_crop_takes_the_centre(height: int, width: int, crop: int) -> None:
    images = tagged(4, height, width, 1)
    top, left = (height - crop) // 2, (width - crop) // 2  # the odd row or column is left out at the end
    expected = images[:, top : top + crop, left : left + crop].transpose(0, 3, 1, 2)
    assert np.array_equal(ImageRows(ImageSettings(crop=crop), images).read(0, 4)["image"], expected)
    padded = ImageRows(ImageSettings(crop=crop, size=crop + 2, fit="pad"), images).read(0, 4)["image"]
    assert np.array_equal(padded[:, :, 1:-1, 1:-1], expected)
    assert padded.sum() == expected.sum()


def test_crop_back_to_the_old_size_is_a_zoom() -> None:
    """The shape stays, the pixels don't."""
    images = tagged(2, 8, 8, 1)
    rows = ImageRows(ImageSettings(crop=4, size=8), images).read(0, 2)["image"]
    small = Image.fromarray(images[0, 2:6, 2:6, 0]).resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(rows[0, 0], np.asarray(small))


def test_any_range_of_rows_in_any_order() -> None:
    images, labels = tagged(300, 4, 4, 1), np.arange(300)
    source = ImageRows(ImageSettings(), images, labels, np.arange(299, -1, -1))
    for first, last in ((0, 300), (7, 64), (299, 300)):
        rows = source.read(first, last)
        assert np.array_equal(rows["image"][:, 0], images[::-1][first:last, ..., 0])
        assert np.array_equal(rows["label"], labels[::-1][first:last])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": 1438}, "data.rows: 1438 asked for, but there are 1437 real rows"),
        ({"held_out_rows": 361}, "data.held_out_rows: 361 asked for, but there are 360"),
        ({"size": 7, "fit": "pad"}, "data.size: cannot pad 8x8 images to 7x7: set `size` to 8 or more"),
        ({"crop": 9}, "data.crop: cannot crop 9x9 pixels from 8x8 images: set `crop` to 8 or less, or to null"),
        ({"crop": 6, "size": 5, "fit": "pad"}, "data.size: cannot pad 6x6 images to 5x5"),
    ],
)
def test_settings_that_do_not_fit(settings: Any, message: str, tmp_path: Path) -> None:
    assert message in message_of(Digits(**settings), tmp_path, RecipeError)


def test_padding_files_to_less_than_the_largest(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", tagged(2, 4, 9))
    write_pictures(tmp_path / "b", tagged(2, 6, 3))
    data = ImageFolder(path=".", size=8, fit="pad")
    assert "set `size` to 9 or more" in message_of(data, tmp_path, RecipeError)
