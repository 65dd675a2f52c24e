"""Zeros in JPEGs: found in damaged photographs, and in no drawing or photograph that is whole."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from collapse_sim.data.images.jpeg_zeros import zeroed
from tests.data.making import encoded, middle


def _drawings() -> dict[str, np.ndarray]:
    y, x = np.mgrid[0:240, 0:2400]
    return {
        "white": np.full((240, 2400), 255),
        "to the right": x * 255 // 2400,
        "to the left": 255 - x * 255 // 2400,
        "down": y,
        "saw": 255 - x % 256,
        "chequers": (x // 4 + y // 4) % 2 * 255,
        "dots": 255 - (x % 8 + y % 8 == 0) * 9,
        "lines": ((x + y) % 97 == 0) * 255,
    }


@pytest.mark.parametrize("name", _drawings())
def test_drawings_are_not_taken_for_damaged_photographs(name: str) -> None:
    """Flat areas and ramps, where an encoder writes the same bits for long."""
    image = Image.fromarray(_drawings()[name].astype(np.uint8))
    for quality in (10, 75, 98):
        for options in ({}, {"optimize": True}, {"progressive": True}):
            for mode in ("L", "RGB"):
                assert not zeroed(encoded(image.convert(mode), "JPEG", quality=quality, **options))


def test_photographs_are_whole() -> None:
    for picture in load_sample_images().images:
        for quality in (10, 50, 75, 95):
            for options in ({}, {"optimize": True}, {"progressive": True}):
                content = encoded(Image.fromarray(picture), "JPEG", quality=quality, **options)
                assert not zeroed(content)
                assert options or zeroed(middle(content, 64))
