"""What is read of many encoded images: everything wrong is said at once, and the content has a key."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from collapse_sim.core.errors import MissingError
from collapse_sim.data.images.image_folder import ImageFolder
from tests.data.making import message_of, middle, oriented, photo, rows_of, tagged, write_pictures


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_unreadable_images_are_all_named(suffix: str, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, tagged(6, 40, 40, 3), suffix)
    paths[1].write_bytes(paths[1].read_bytes()[:-200])
    paths[2].write_bytes(b"")
    paths[4].write_text("<html>not found</html>")
    text = message_of(ImageFolder(path="."), tmp_path)
    assert text.startswith(f"image_folder: 3 unreadable images in {tmp_path}")
    for number in (1, 2, 4):
        assert f"\n  {paths[number].name} (" in text
    assert f"{paths[2].name} (not an image of these formats: PNG, JPEG, WEBP, BMP, TIFF, GIF)" in text
    assert paths[0].name not in text


@pytest.mark.parametrize(("bad", "more"), [(10, ""), (13, "\n  and 3 more")])
def test_ten_unreadable_images_are_named_and_the_rest_counted(bad: int, more: str, tmp_path: Path) -> None:
    for path in write_pictures(tmp_path, tagged(20, 4, 4))[:bad]:
        path.write_bytes(b"")
    text = message_of(ImageFolder(path="."), tmp_path)
    assert f"{bad} unreadable" in text
    assert text.count(".png (") == 10
    assert text.endswith(more or "0009.png (not an image of these formats: PNG, JPEG, WEBP, BMP, TIFF, GIF)")


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, np.stack([np.asarray(photo())] * 4), ".jpg")
    paths[2].write_bytes(middle(paths[2].read_bytes(), 512))
    text = message_of(ImageFolder(path="."), tmp_path)
    assert "1 unreadable" in text
    assert "0002.jpg (some of its pixel data has been overwritten with zeros)" in text


def test_damage_that_only_decoding_shows_is_named_too(tmp_path: Path) -> None:
    """A PNG with right checksums over pixels that don't unpack: `inspect` doesn't decode, `load` does."""

    paths = write_pictures(tmp_path, tagged(5, 8, 8))
    content = paths[3].read_bytes()
    start = content.index(b"IDAT")
    length = int.from_bytes(content[start - 4 : start], "big")
    chunk = b"IDAT" + b"\0" * length
    spoilt = content[:start] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + content[start + 8 + length :]
    paths[3].write_bytes(spoilt)
    data = ImageFolder(path=".", held_out=1)
    with pytest.raises(MissingError, match=r"1 unreadable images in .*\n  0003.png"):
        rows_of(data, tmp_path)


def test_mixed_modes(tmp_path: Path) -> None:
    write_pictures(tmp_path / "grey", tagged(2, 4, 4))
    write_pictures(tmp_path / "colour", tagged(3, 4, 4, 3))
    text = message_of(ImageFolder(path="."), tmp_path)
    assert "2 L (such as grey/0000.png), 3 RGB (such as colour/0000.png): set `data.channels` to 1" in text


def test_modes_that_are_neither_grey_nor_colour(tmp_path: Path) -> None:
    write_pictures(tmp_path, tagged(3, 4, 4, 4))
    assert "3 RGBA (such as 0000.png)" in message_of(ImageFolder(path="."), tmp_path)


def test_mixed_sizes(tmp_path: Path) -> None:
    write_pictures(tmp_path / "large", tagged(3, 8, 6))
    write_pictures(tmp_path / "small", tagged(2, 4, 4))
    text = message_of(ImageFolder(path="."), tmp_path)
    assert "images of 2 sizes: 3 of 8x6 (such as large/0000.png), 2 of 4x4 (such as small/0000.png)" in text
    assert "set `data.size`" in text


def test_images_smaller_than_what_is_cut_out(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", tagged(2, 9, 9))
    write_pictures(tmp_path / "b", tagged(3, 6, 8))
    text = message_of(ImageFolder(path=".", crop=7), tmp_path)
    assert "smaller than the crop, 7x7: 3 of 6x8 (such as b/0000.png): remove them" in text
    assert "`data.crop` to 6 or less" in text
    assert ImageFolder(path=".", crop=6).inspect(tmp_path).shape("image") == (1, 6, 6)


def test_everything_wrong_with_a_folder_is_said_at_once(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", tagged(2, 4, 4))
    write_pictures(tmp_path / "b", tagged(2, 5, 5, 3))
    (tmp_path / "c.png").touch()
    text = message_of(ImageFolder(path="."), tmp_path)
    for part in ("unreadable", "colour modes", "sizes"):
        assert part in text


def test_the_first_frame_is_taken_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = [Image.fromarray(np.full((8, 8), level, np.uint8)) for level in (40, 200)]
    for name in ("a.gif", "b.tif", "c.webp", "d.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "e.png")
    data = ImageFolder(path=".", channels=1)
    assert all(np.abs(part["image"].astype(int) - 40).max() <= 2 for part in rows_of(data, tmp_path))
    data.inspect(tmp_path)
    assert f"only the first frame or page is used of a.gif, b.tif, c.webp, d.png in {tmp_path}" in caplog.text


def test_a_file_that_goes_away_meanwhile(pool: Path) -> None:
    data = ImageFolder(path=".", held_out=1)
    real, _ = data.open(pool)
    for path in pool.rglob("*.png"):
        path.unlink()
    with pytest.raises(MissingError, match="17 unreadable images"):
        real.read(0, 17)


def test_the_key_of_utf8_names_is_what_it_was(tmp_path: Path) -> None:
    """Computed beside: sha256 over names, lengths and hashes."""

    (tmp_path / "é").mkdir()
    paths = write_pictures(tmp_path / "é", tagged(3, 4, 4))
    total = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        total.update(f"é/{path.name}\0{len(content)}\0".encode() + hashlib.sha256(content).digest())
    assert ImageFolder(path=".").inspect(tmp_path).fingerprint == total.hexdigest()


def test_fingerprint_sees_contents_and_names(tmp_path: Path) -> None:
    """A changed pixel in a file of the same length, and a new name in the same place, change the key."""
    folder, data = tmp_path / "a", ImageFolder(path="a")
    folder.mkdir()
    for row, image in enumerate(tagged(5, 4, 4)):
        Image.fromarray(image).save(folder / f"{row}.png", compress_level=0)
    prints = [data.inspect(tmp_path).fingerprint]
    length = (folder / "4.png").stat().st_size
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "4.png", compress_level=0)
    assert (folder / "4.png").stat().st_size == length
    prints.append(data.inspect(tmp_path).fingerprint)
    (folder / "4.png").rename(folder / "5.png")
    prints.append(data.inspect(tmp_path).fingerprint)
    assert len(set(prints)) == 3


def test_turned_pixels_have_another_key(tmp_path: Path) -> None:
    """Rows that were made without looking at the orientation are not taken for these."""
    prints = []
    for name, tags in (("upright", (1, 1, 1)), ("turned", (1, 8, 1))):
        (tmp_path / name).mkdir()
        for number, tag in enumerate(tags):
            (tmp_path / name / f"{number}.jpg").write_bytes(oriented(tag, "JPEG"))
        data = ImageFolder(path=name, size=16)
        prints.append(data.inspect(tmp_path).fingerprint)
        rows_of(data, tmp_path)
    assert prints[0] != prints[1]
