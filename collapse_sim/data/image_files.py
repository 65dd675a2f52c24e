"""Reading a folder of png and jpg files: list them, check and hash them without decoding, decode them."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from collapse_sim.data.images import ImageSettings, Shape, fitted
from collapse_sim.errors import MissingError

SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")  # Pillow opens nothing else, whatever a file's name says
CHANNELS = {"L": 1, "RGB": 3}
NAMED = 10  # files that a message names before it counts the rest
UNREADABLE = (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Listing:
    """The image files of a folder, by name relative to it, in the order of their names."""

    place: Path
    names: tuple[str, ...]
    classes: tuple[str, ...]  # subfolders that are classes; () for none

    def labels(self) -> np.ndarray | None:
        """int64 (files,): the number of each file's class."""
        if not self.classes:
            return None
        number = {name: i for i, name in enumerate(self.classes)}
        return np.array([number[name.split("/")[0]] for name in self.names], np.int64)


def list_images(place: Path) -> Listing:
    """All png and jpg files at every level below `place`; hidden ones are left out. Raises MissingError for none."""
    if not place.is_dir():
        raise MissingError(
            f"image_folder: no folder {place}: set `data.path` to a folder of png or jpg files or to a .npy file, "
            "absolute or relative to --data-dir (COLLAPSE_SIM_DATA)"
        )
    files = (path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    names = sorted(path.relative_to(place).as_posix() for path in files if path.is_file())
    if not names:
        raise MissingError(f"image_folder: no images in {place}: needed: files ending in {', '.join(SUFFIXES)}")
    tops = {name.split("/")[0] if "/" in name else "" for name in names}
    return Listing(place, tuple(names), tuple(sorted(tops)) if len(tops) > 1 and "" not in tops else ())


def survey(listing: Listing, settings: ImageSettings, channels: int | None) -> tuple[Shape, str]:
    """The common (C, H, W) before `size` is applied, and the sha256 over all names and contents.

    Raises MissingError with everything that is wrong: unreadable files, colour modes or sizes that need a setting.
    """
    digest = hashlib.sha256()
    unreadable: list[str] = []
    sizes: dict[tuple[int, int], list[str]] = {}
    modes: dict[str, list[str]] = {}
    for name in listing.names:
        try:
            content = (listing.place / name).read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + hashlib.sha256(content).digest())
            image = _check(content)
        except UNREADABLE as error:
            unreadable.append(f"{name} ({_reason(error)})")
            continue
        sizes.setdefault((image.height, image.width), []).append(name)
        modes.setdefault(image.mode, []).append(name)
    problems = []
    if unreadable:
        problems.append(_unreadable(listing.place, unreadable))
    if channels is None and (len(modes) > 1 or set(modes) - set(CHANNELS)):
        found = ", ".join(f"{len(names)} {mode} (such as {names[0]})" for mode, names in sorted(modes.items()))
        problems.append(
            f"image_folder: {listing.place} has colour modes that are mixed or neither L nor RGB: {found}: "
            "set `data.channels` to 1 (grey) or 3 (RGB), which converts them"
        )
    if settings.size is None and len(sizes) > 1:
        common = Counter({size: len(names) for size, names in sizes.items()}).most_common(3)
        found = ", ".join(f"{count} of {h}x{w} (such as {sizes[h, w][0]})" for (h, w), count in common)
        more = f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else ""
        problems.append(
            f"image_folder: {listing.place} has images of {len(sizes)} sizes: {found}{more}: "
            "set `data.size`, which brings all to one size"
        )
    if problems:
        raise MissingError("\n".join(problems))
    largest = (max(height for height, _ in sizes), max(width for _, width in sizes))
    return (channels or CHANNELS[next(iter(modes))], *largest), digest.hexdigest()


def load_images(
    listing: Listing, settings: ImageSettings, channels: int | None, index: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns of the files `index`: "image" uint8 (rows, C, H, W) and, with classes, "label" int64 (rows,).

    Raises MissingError naming the files that can't be decoded, or that have changed since they were checked.
    """
    out: np.ndarray | None = None
    unreadable: list[str] = []
    for row, number in enumerate(index):
        name = listing.names[number]
        try:
            with Image.open(listing.place / name, formats=FORMATS) as image:
                pixels = fitted(image, settings, channels or CHANNELS[image.mode]).transpose(2, 0, 1)
        except UNREADABLE as error:
            unreadable.append(f"{name} ({_reason(error)})")
            continue
        if out is None:
            out = np.empty((len(index), *pixels.shape), np.uint8)
        if pixels.shape != out.shape[1:]:
            unreadable.append(f"{name} (its size has changed)")
            continue
        out[row] = pixels
    if unreadable or out is None:
        raise MissingError(_unreadable(listing.place, unreadable))
    columns = {"image": out}
    labels = listing.labels()
    if labels is not None:
        columns["label"] = labels[index]
    return columns


def _check(content: bytes) -> Image.Image:
    """Header and wholeness of one image. A PNG's checksums tell whether it is whole; a JPEG's end marker does.

    A JPEG that doesn't end in the marker may be whole with something after it: it is decoded, at an eighth of its size.
    """
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{image.mode} pixels of more than 8 bits: save it with 8 bits a channel")
    if image.format == "PNG":
        Image.open(io.BytesIO(content), formats=FORMATS).verify()
    elif not content.endswith(b"\xff\xd9"):
        with Image.open(io.BytesIO(content), formats=FORMATS) as small:
            small.draft("L", (1, 1))
            small.load()
    return image


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a PNG or JPEG image"
    return str(error) or type(error).__name__


def _unreadable(place: Path, names: Sequence[str]) -> str:
    listed = [*names[:NAMED], *([f"and {len(names) - NAMED} more"] if len(names) > NAMED else [])]
    return f"image_folder: {len(names)} unreadable images in {place}: replace or remove them\n  " + "\n  ".join(listed)
