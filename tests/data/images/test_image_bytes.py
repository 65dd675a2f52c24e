"""One encoded image: damaged and deep ones are refused, upright pixels are those of Pillow."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from collapse_sim.data.images.image_bytes import UNREADABLE, check, pixels, reason
from collapse_sim.data.images.image_folder import ImageFolder
from collapse_sim.data.images.image_rows import ImageSettings
from tests.data.making import (
    encoded,
    message_of,
    middle,
    oriented,
    oriented_exif,
    photo,
    rows_of,
    tagged,
    write_pictures,
)

FORMATS: dict[str, Callable[[], bytes]] = {
    "png": lambda: encoded(photo(), "PNG"),
    "jpg": lambda: encoded(photo(), "JPEG", quality=90),
    "jpg, its own tables": lambda: encoded(photo(), "JPEG", quality=90, optimize=True),
    "jpg, progressive": lambda: encoded(photo(), "JPEG", quality=90, progressive=True),
    "webp": lambda: encoded(photo(), "WEBP"),
    "bmp": lambda: encoded(photo(), "BMP"),
    "tif": lambda: encoded(photo(), "TIFF"),
    "tif, LZW": lambda: encoded(photo(), "TIFF", compression="tiff_lzw"),
    "gif": lambda: encoded(photo(), "GIF"),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b[:-40], lambda b: b[:30]])
def test_cut_files_are_refused(name: str, spoil: Callable[[bytes], bytes]) -> None:
    content = FORMATS[name]()
    check(content)
    warnings.simplefilter("ignore")  # Pillow's, for this test
    with pytest.raises(UNREADABLE):
        check(spoil(content))


@pytest.mark.parametrize("name", ["png", "jpg", "jpg, its own tables", "tif, LZW", "gif"])
def test_zeros_in_the_middle_are_noticed(name: str) -> None:
    with pytest.raises(UNREADABLE):
        check(middle(FORMATS[name](), 600))


@pytest.mark.parametrize("name", ["png", "jpg", "jpg, its own tables", "jpg, progressive", "gif"])
def test_zeros_up_to_the_end_are_noticed(name: str) -> None:
    """As a download leaves them that has reserved its place first."""
    content = FORMATS[name]()
    with pytest.raises(UNREADABLE):
        check(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


@pytest.mark.parametrize("name", FORMATS)
def test_something_behind_the_image_is_no_damage(name: str) -> None:
    content = FORMATS[name]()
    assert check(content + bytes(500)) == check(content)


def test_rows_longer_than_any_camera_has() -> None:
    """A damaged header; Pillow's decoders would take minutes."""
    content = bytearray(encoded(photo(), "BMP"))
    content[18:22] = struct.pack("<i", 70_000)
    with pytest.raises(ValueError, match="200x70000 pixels: at most 65535 are allowed"):
        check(bytes(content))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_damaged_bytes_give_nothing_but_these_errors(kind: str) -> None:
    """Whatever they are: an image is refused, or read."""
    rng = np.random.default_rng(0)
    exif = {"exif": oriented_exif(6)} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}
    content = encoded(photo().resize((20, 24)), kind, **exif)
    reasons = []
    warnings.simplefilter("ignore")
    for _ in range(100):
        spoilt = bytearray(content)
        for place in rng.integers(0, min(len(content), rng.choice([40, 200, len(content)])), rng.choice([1, 3, 20])):
            spoilt[place] = rng.choice([0, 255, int(rng.integers(0, 256))])
        try:
            check(bytes(spoilt))
            assert pixels(bytes(spoilt), ImageSettings(), 3).dtype == np.uint8
        except UNREADABLE as error:
            reasons.append(reason(error))
    assert len(reasons) > 20
    assert all(reasons)


def test_other_formats_are_not_opened_whatever_their_name(tmp_path: Path) -> None:
    write_pictures(tmp_path, tagged(3, 4, 4))
    Image.fromarray(tagged(1, 4, 4)[0]).save(tmp_path / "x.png", format="PPM")
    assert "x.png (not an image of these formats: PNG, JPEG, WEBP, BMP, TIFF, GIF)" in message_of(
        ImageFolder(path="."), tmp_path
    )


def test_deep_pixels_would_be_clipped(tmp_path: Path) -> None:
    write_pictures(tmp_path, tagged(3, 4, 4))
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "deep.png")
    text = message_of(ImageFolder(path=".", channels=1), tmp_path)
    assert "deep.png (I;16 pixels of more than 8 bits: save it with 8 bits per channel)" in text


def deep_png(color: int, samples: int) -> bytes:
    """4x4 pixels of 16 bits: grey (0), RGB (2), grey and alpha (4), RGBA (6)."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 4, 4, 16, color, 0, 0, 0)
    rows = b"".join(b"\0" + np.full(4 * samples, 40_000, ">u2").tobytes() for _ in range(4))
    pieces = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + pieces


def deep_tiff(samples: int) -> bytes:
    """4x4 pixels of 16 bits, little endian."""
    data = np.full(16 * samples, 40_000, "<u2").tobytes()
    bits = struct.pack(f"<{samples}H", *[16] * samples)
    tags = [
        (256, 3, 1, 4), (257, 3, 1, 4), (258, 3, samples, 8 if samples > 2 else 16), (259, 3, 1, 1),
        (262, 3, 1, 2 if samples == 3 else 1), (273, 4, 1, 8 + len(bits)), (277, 3, 1, samples), (278, 3, 1, 4),
        (279, 4, 1, len(data)),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    start = 8 + len(bits) + len(data)
    return struct.pack("<2sHI", b"II", 42, start) + bits + data + struct.pack("<H", len(tags)) + entries + bytes(4)


DEEP: dict[str, Callable[[], bytes]] = {
    **{f"png, {n} samples": lambda c=c, n=n: deep_png(c, n) for c, n in ((0, 1), (2, 3), (4, 2), (6, 4))},  # type: ignore[misc]
    **{f"tiff, {n} samples": lambda n=n: deep_tiff(n) for n in (1, 3)},  # type: ignore[misc]
    **{
        f"{kind}, {mode}": lambda kind=kind, mode=mode: encoded(Image.new(mode, (4, 4), 40_000), kind)  # type: ignore[misc]
        for kind, modes in (("PNG", ("I;16",)), ("TIFF", ("I;16", "I;16B", "I", "F")))
        for mode in modes
    },
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_pixels_are_refused(name: str, tmp_path: Path) -> None:
    """Pillow gives 8 of a colour's 16 bits without a word."""
    content = DEEP[name]()
    Image.open(io.BytesIO(content)).load()
    (tmp_path / "deep.png").write_bytes(content)
    write_pictures(tmp_path, tagged(3, 4, 4))
    text = message_of(ImageFolder(path=".", channels=1), tmp_path)
    assert "1 unreadable" in text
    assert "deep.png (" in text
    assert "pixels of more than 8 bits: save it with 8 bits per channel" in text


SHALLOW = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"),
    "JPEG": ("1", "L", "RGB", "CMYK", "YCbCr"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB", "RGBA"),
    "WEBP": ("L", "RGB", "RGBA"),
}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in SHALLOW.items() for mode in modes])
def test_other_modes_are_read(kind: str, mode: str) -> None:
    content = encoded(Image.new(mode, (4, 4)), kind)
    assert check(content)[:2] == (4, 4)
    assert pixels(content, ImageSettings(), 3).shape == (3, 4, 4)


def test_a_png_is_not_decoded_to_see_which_way_up_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pixels' checksums are looked at, which costs a quarter of it. (EXIF behind the pixels needs them.)"""
    content = encoded(photo(), "PNG")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it is decoded"))
    header = check(content)
    assert (header.height, header.width, header.turned) == (200, 240, False)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("tag", range(1, 9))
def test_images_are_brought_upright(tag: int, kind: str) -> None:
    """As PIL.ImageOps.exif_transpose does."""
    content = oriented(tag, kind)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image)).transpose(2, 0, 1)
    found = pixels(content, ImageSettings(), None)
    assert np.array_equal(found, expected)
    header = check(content)
    assert (header.height, header.width) == found.shape[1:] == ((24, 40) if tag > 4 else (40, 24))
    assert header.turned == (tag > 1 and kind != "TIFF")


def test_orientation_behind_the_pixels_of_a_png() -> None:
    content = oriented(6, "PNG")
    start = content.index(b"eXIf") - 4
    length = 12 + int.from_bytes(content[start : start + 4], "big")
    moved = content[:start] + content[start + length :]
    end = moved.index(b"IEND") - 4
    moved = moved[:end] + content[start : start + length] + moved[end:]
    assert check(moved) == check(content)
    assert np.array_equal(pixels(moved, ImageSettings(), None), pixels(content, ImageSettings(), None))


EXIF = [
    b"", b"Exif", b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0" + bytes(40),
    b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\xff\xff\xff\xff\x04\0\0\0\0\0\0\0",
    b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0",
    b"Exif\0\0II*\0\xff\xff\xff\x7f", b"not EXIF at all",
]  # fmt: skip


@pytest.mark.parametrize("exif", EXIF)
def test_damaged_exif_ends_nothing(exif: bytes, tmp_path: Path) -> None:
    plain = encoded(photo().resize((24, 40)), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    (tmp_path / "x.jpg").write_bytes(plain[:2] + segment + plain[2:])
    (tmp_path / "y.jpg").write_bytes(plain)
    data = ImageFolder(path=".")
    assert data.inspect(tmp_path).shape("image") == (3, 40, 24)
    real, held_out = rows_of(data, tmp_path)
    assert np.array_equal(real["image"], held_out["image"])
