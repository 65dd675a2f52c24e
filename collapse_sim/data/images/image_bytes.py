"""The bytes of one image file: what its header says, whether it is whole, and its pixels as a viewer shows them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from collapse_sim.data.images.image_rows import ImageSettings, fitted
from collapse_sim.data.images.jpeg_zeros import zeroed

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")  # Pillow opens nothing else, whatever a file's name says
CHANNELS = {"L": 1, "RGB": 3}
# What Pillow raises where a file is damaged.
UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
LATE = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")  # may tell a PNG's orientation, and may follow its pixels
LONGEST = 65_535  # pixels of a side, JPEG's limit: for longer rows Pillow's decoders take minutes
BITS_PER_SAMPLE = 258  # a tag of TIFF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF's orientation -> what brings the picture upright, as in PIL.ImageOps.exif_transpose


class Header(NamedTuple):
    """What an image is like, upright."""

    height: int
    width: int
    mode: str  # Pillow's
    turned: bool  # its orientation asks for it
    frames: bool  # it has more than one: the first is taken


def check(content: bytes) -> Header:
    """Header and wholeness of an image.

    A PNG's checksums tell whether it is whole; a JPEG's end marker and stretches of zeros do. A JPEG that does not end
    in the marker may be whole with something after it: it is decoded, at an eighth of its size. The others are decoded.
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
            raise ValueError("a stretch of its pixels has been overwritten by zeros")
        if not content.endswith(b"\xff\xd9"):
            with _open(content) as small:
                small.draft("L", (1, 1))
                small.load()
    else:
        image.load()
    frames = image.format not in ("JPEG", "MPO") and bool(getattr(image, "is_animated", False))
    turn = _turn(image)
    height, width = (image.height, image.width) if turn is None or not _lies(turn) else (image.width, image.height)
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
    """What a message says of an image that is one of UNREADABLE."""
    if isinstance(error, UnidentifiedImageError):
        return f"not an image of these formats: {', '.join(FORMATS)}"
    return str(error) or type(error).__name__


def _open(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if max(image.size) > LONGEST:
        raise ValueError(f"{image.height}x{image.width} pixels: at most {LONGEST} are allowed in height and width")
    return image


def _check_depth(image: Image.Image, content: bytes) -> None:
    """Pillow reads 16 bits of a colour as 8 without a word."""
    deep = image.mode.startswith(("I", "F"))
    if image.format == "PNG":
        deep = deep or content[24] > 8  # the header's bit depth: the header is the first chunk
    elif image.format == "TIFF":
        bits = image.tag_v2.get(BITS_PER_SAMPLE, 1)  # type: ignore[attr-defined]
        deep = deep or max(bits if isinstance(bits, tuple) else (bits,)) > 8
    if deep:
        raise ValueError(f"{image.mode} pixels of more than 8 bits: save it with 8 bits a channel")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What brings it upright; None for nothing, and where EXIF is damaged. Pillow turns TIFFs itself, in loading."""
    try:
        exif = Image.Image.getexif(image)  # a PNG's own method decodes all pixels first
        return TURNS.get(exif.get(ExifTags.Base.Orientation))  # type: ignore[arg-type]
    except Exception:  # whatever a parser meets in damaged EXIF, which viewers ignore too
        return None


def _lies(turn: Image.Transpose) -> bool:
    """Whether it exchanges height and width."""
    return turn in (TURNS[5], TURNS[6], TURNS[7], TURNS[8])
