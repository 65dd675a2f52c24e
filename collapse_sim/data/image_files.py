"""Reading a folder of png and jpg files: list them, check and hash them without decoding, decode them."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
from PIL import Image, UnidentifiedImageError

from collapse_sim.data.base import Columns
from collapse_sim.data.images import ImageSettings, Shape, fitted
from collapse_sim.data.progress import Progress
from collapse_sim.data.remember import Stamps, keep, recall
from collapse_sim.errors import MissingError

SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")  # Pillow opens nothing else, whatever a file's name says
CHANNELS = {"L": 1, "RGB": 3}
NAMED = 10  # files that a message names before it counts the rest
UNREADABLE = (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError)
THREADS = 8  # that decode at the same time, at most: Pillow lets go of the interpreter meanwhile


@dataclass(frozen=True)
class Listing:
    """The image files of a folder, by name relative to it, in the order of their names."""

    kind: str  # of data, in messages
    place: Path
    names: tuple[str, ...]
    classes: tuple[str, ...]  # subfolders that are classes; () for none
    stamps: Stamps

    def labels(self) -> np.ndarray | None:
        """int64 (files,): the number of each file's class."""
        if not self.classes:
            return None
        number = {name: i for i, name in enumerate(self.classes)}
        return np.array([number[name.split("/")[0]] for name in self.names], np.int64)


class Survey(NamedTuple):
    """What the headers of all files say, and a hash of their contents. JSON when taken as a dict."""

    fingerprint: str  # sha256 over all names and contents
    sizes: list[tuple[int, int, int, str]]  # height, width, how many files, the first of them; in order of appearance
    modes: list[tuple[str, int, str]]  # Pillow's colour mode, how many files, the first of them
    unreadable: list[str]  # name and reason


def list_images(kind: str, place: Path) -> Listing:
    """All png and jpg files at every level below the folder `place`; hidden files and folders are left out.

    Raises MissingError for none, and for a folder that may not be read.
    """
    taken_ns = time.time_ns()
    try:
        files = sorted(_scan(place, ""))
    except OSError as error:
        raise MissingError(f"{kind}: {error.filename} cannot be read: {error.strerror}") from None
    if not files:
        raise MissingError(f"{kind}: no images in {place}: needed: files ending in {', '.join(SUFFIXES)}")
    tops = {name.split("/")[0] if "/" in name else "" for name, _ in files}
    classes = tuple(sorted(tops)) if len(tops) > 1 and "" not in tops else ()
    return Listing(kind, place, tuple(name for name, _ in files), classes, Stamps.of(files, taken_ns))


def _scan(folder: Path, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _scan(folder / entry.name, f"{prefix}{entry.name}/")
            elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                yield prefix + entry.name, entry.stat()


def survey(listing: Listing, settings: ImageSettings, channels: int | None) -> tuple[Shape, str]:
    """The common (C, H, W) before `crop` and `size` are applied, and the sha256 over all names and contents.

    Every file is read when the folder is seen for the first time, or has changed since; else only the list is.
    Raises MissingError with everything that is wrong: unreadable files, colour modes or sizes that need a setting.
    """
    place, what = listing.place, f"images, Pillow {PIL.__version__}"
    kept = recall(what, place, listing.stamps)
    found = Survey(**kept) if kept is not None else _look(listing)
    if kept is None and not found.unreadable:
        keep(what, place, listing.stamps, found._asdict())
    problems = [*_problems(listing, found, settings, channels)]
    if problems:
        raise MissingError("\n".join(problems))
    largest = (max(height for height, *_ in found.sizes), max(width for _, width, *_ in found.sizes))
    return (channels or CHANNELS[found.modes[0][0]], *largest), found.fingerprint


def _look(listing: Listing) -> Survey:
    """Read all files."""
    digest = hashlib.sha256()
    unreadable: list[str] = []
    sizes: dict[tuple[int, int], list[Any]] = {}
    modes: dict[str, list[Any]] = {}
    progress = Progress(f"{listing.kind}: checking {listing.place}, once", len(listing.names), "files")
    for number, name in enumerate(listing.names):
        progress.at(number)
        try:
            content = (listing.place / name).read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + hashlib.sha256(content).digest())
            image = _check(content)
        except UNREADABLE as error:
            unreadable.append(f"{name} ({_reason(error)})")
            continue
        sizes.setdefault((image.height, image.width), [0, name])[0] += 1
        modes.setdefault(image.mode, [0, name])[0] += 1
    return Survey(
        digest.hexdigest(),
        [(height, width, count, name) for (height, width), (count, name) in sizes.items()],
        [(mode, count, name) for mode, (count, name) in sorted(modes.items())],
        unreadable,
    )


def _problems(listing: Listing, found: Survey, settings: ImageSettings, channels: int | None) -> Iterator[str]:
    where = f"{listing.kind}: {listing.place}"
    if found.unreadable:
        yield _unreadable(listing, found.unreadable)
    modes = {mode for mode, *_ in found.modes}
    if channels is None and (len(modes) > 1 or modes - set(CHANNELS)):
        listed = ", ".join(f"{count} {mode} (such as {name})" for mode, count, name in found.modes)
        yield (
            f"{where} has colour modes that are mixed or neither L nor RGB: {listed}: "
            "set `data.channels` to 1 (grey) or 3 (RGB), which converts them"
        )
    if settings.size is None and settings.crop is None and len(found.sizes) > 1:
        yield (
            f"{where} has images of {len(found.sizes)} sizes: {_sizes(found.sizes)}: "
            "set `data.size`, which brings all to one size"
        )
    small = [size for size in found.sizes if settings.crop is not None and min(size[:2]) < settings.crop]
    if small:
        yield (
            f"{where} has images that are smaller than what is cut out of them, {settings.crop}x{settings.crop}: "
            f"{_sizes(small)}: remove them, or set `data.crop` to {min(min(size[:2]) for size in small)} or less, "
            "or to null for no cropping"
        )


def _sizes(sizes: Sequence[tuple[int, int, int, str]]) -> str:
    """The three most common ones."""
    common = Counter({(height, width, name): count for height, width, count, name in sizes}).most_common(3)
    listed = ", ".join(f"{count} of {height}x{width} (such as {name})" for (height, width, name), count in common)
    return listed + (f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else "")


@dataclass(frozen=True, eq=False)
class FileRows:
    """data.base.RowSource: the files `index` of a listing, decoded, cropped and brought to size as they are read.

    Columns: "image" uint8 (rows, C, H, W) and, with classes, "label" int64 (rows,).
    """

    listing: Listing
    settings: ImageSettings
    channels: int | None  # None: as they are
    index: np.ndarray
    labels: np.ndarray | None = None  # int64, of all files of the listing

    def __len__(self) -> int:
        return len(self.index)

    def read(self, first: int, last: int) -> Columns:
        """Rows first, ..., last - 1.

        Raises MissingError naming the files that can't be decoded, or that have changed since they were checked.
        """
        index = self.index[first:last]
        names = [self.listing.names[number] for number in index]
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            decoded = list(pool.map(self._decode, names))
        images = [image for image in decoded if not isinstance(image, str)]
        problems = [problem for problem in decoded if isinstance(problem, str)]
        problems += [
            f"{name} (its size has changed)"
            for name, image in zip(names, decoded, strict=True)
            if not isinstance(image, str) and image.shape != images[0].shape
        ]
        if problems:
            raise MissingError(_unreadable(self.listing, problems))
        columns = {"image": np.stack(images)}
        if self.labels is not None:
            columns["label"] = self.labels[index]
        return columns

    def _decode(self, name: str) -> np.ndarray | str:
        """uint8 (C, H, W), or what is wrong with the file."""
        try:
            with Image.open(self.listing.place / name, formats=FORMATS) as image:
                if self.channels is None and image.mode not in CHANNELS:
                    return f"{name} (its colour mode has changed)"
                pixels = fitted(image, self.settings, self.channels or CHANNELS[image.mode])
        except UNREADABLE as error:
            return f"{name} ({_reason(error)})"
        return pixels.transpose(2, 0, 1)


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


def _unreadable(listing: Listing, names: Sequence[str]) -> str:
    listed = [*names[:NAMED], *([f"and {len(names) - NAMED} more"] if len(names) > NAMED else [])]
    return (
        f"{listing.kind}: {len(names)} unreadable images in {listing.place}: replace or remove them\n  "
        + "\n  ".join(listed)
    )
