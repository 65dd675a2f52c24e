"""One encoded image: its header, whether it is complete, and its pixels in the orientation that a viewer shows."""

from __future__ import annotations

import io
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from collapse_sim.data.images.image_rows import ImageSettings, fitted
from collapse_sim.data.images.jpeg_zeros import zeroed

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")  # Pillow opens no other format, whatever the file name
CHANNELS = {"L": 1, "RGB": 3}
# What Pillow raises for damaged files.
UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
LATE = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")  # may give a PNG's orientation, and may follow its pixels
LONGEST = 65_535  # pixels per side, JPEG's limit: for longer rows Pillow's decoders take minutes
BITS_PER_SAMPLE = 258  # a TIFF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> the transpose that makes the image upright, as in PIL.ImageOps.exif_transpose


class Header(NamedTuple):
    """Properties of an image, after it has been turned upright."""

    height: int
    width: int
    mode: str  # Pillow's
    turned: bool  # EXIF requires turning
    frames: bool  # has more than one frame: the first is used


def check(content: bytes) -> Header:
    """Check that an image is complete, and return its header.

    A PNG is checked by its checksums, a JPEG by its end marker and by runs of zeros. A JPEG that does not end in the
    marker may be complete with data after it: it is decoded at an eighth of its size. Other formats are decoded.
    Raises one of UNREADABLE; its text says what is wrong.
    """
    image = _open(content)
    _check_depth(image, content)
    if image.format == "PNG":
        _open(content).verify()
        if any(mark in content for mark in LATE):
            image.load()
    elif image.format in ("JPEG", "MPO"):
        if zeroed(content):
            raise ValueError("some of its pixel data has been overwritten with zeros")
        if not content.endswith(b"\xff\xd9"):
            with _open(content) as small:
                small.draft("L", (1, 1))
                small.load()
    else:
        image.load()
    frames = image.format not in ("JPEG", "MPO") and bool(getattr(image, "is_animated", False))
    turn = _turn(image)
    height, width = (
        (image.height, image.width) if turn is None or not _swaps_sides(turn) else (image.width, image.height)
    )
    return Header(height, width, image.mode, turn is not None, frames)


def pixels(content: bytes, settings: ImageSettings, channels: int | None) -> np.ndarray:
    """uint8 (C, H, W) of the first frame, upright, cropped and brought to size. Raises one of UNREADABLE."""
    with _open(content) as image:
        if channels is None and image.mode not in CHANNELS:
            raise ValueError("its colour mode has changed")
        image.load()
        turn = _turn(image)
        upright = image if turn is None else image.transpose(turn)
        return fitted(upright, settings, channels or CHANNELS[image.mode]).transpose(2, 0, 1)


def reason(error: BaseException) -> str:
    """The reason in messages for an image that raised one of UNREADABLE."""
    if isinstance(error, UnidentifiedImageError):
        return f"not an image of these formats: {', '.join(FORMATS)}"
    return str(error) or type(error).__name__


def _open(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if max(image.size) > LONGEST:
        raise ValueError(f"{image.height}x{image.width} pixels: at most {LONGEST} are allowed in height and width")
    return image


def _check_depth(image: Image.Image, content: bytes) -> None:
    """Raises ValueError for more than 8 bits per channel, which Pillow would silently reduce to 8."""
    deep = image.mode.startswith(("I", "F"))
    if image.format == "PNG":
        deep = deep or content[24] > 8  # the bit depth in the header, which is the first chunk
    elif image.format == "TIFF":
        bits = image.tag_v2.get(BITS_PER_SAMPLE, 1)  # type: ignore[attr-defined]
        deep = deep or max(bits if isinstance(bits, tuple) else (bits,)) > 8
    if deep:
        raise ValueError(f"{image.mode} pixels of more than 8 bits: save it with 8 bits per channel")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """The transpose that makes it upright; None for none or damaged EXIF. Pillow turns TIFFs itself when loading."""
    try:
        exif = Image.Image.getexif(image)  # a PNG's own method decodes all pixels first
        return TURNS.get(exif.get(ExifTags.Base.Orientation))  # type: ignore[arg-type]
    except Exception:  # any error of a parser in damaged EXIF, which viewers ignore too
        return None


def _swaps_sides(turn: Image.Transpose) -> bool:
    """Whether it swaps height and width."""
    return turn in (TURNS[5], TURNS[6], TURNS[7], TURNS[8])
