"""Encoded images, in files or in a dataset: look at them all once, check and hash them, and decode them row by row."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import PIL

from collapse_sim.core.errors import MissingError
from collapse_sim.data.base import Columns
from collapse_sim.data.duplicates import groups_of
from collapse_sim.data.images.image_bytes import CHANNELS, UNREADABLE, check, pixels, reason
from collapse_sim.data.images.image_files import some
from collapse_sim.data.images.image_rows import ImageSettings, Shape
from collapse_sim.data.progress import Progress
from collapse_sim.data.remember import FileStats, load, store

THREADS = 8  # that decode at the same time, at most: Pillow lets go of the interpreter meanwhile

logger = logging.getLogger(__name__)


class Pictures(Protocol):
    """Encoded images in an order."""

    @property
    def kind(self) -> str:
        """Of data, in messages."""
        ...

    @property
    def place(self) -> Path: ...

    @property
    def stamps(self) -> FileStats: ...

    @property
    def classes(self) -> tuple[str, ...]:
        """() for none."""
        ...

    @property
    def left_out(self) -> str:
        """A sentence on what there is beside these images, or ""; `level` is how it is logged."""
        ...

    @property
    def level(self) -> int: ...

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """What messages call an image."""
        ...

    def identity(self, number: int) -> bytes:
        """What the content hash covers beside the content."""
        ...

    def content(self, number: int) -> bytes:
        """The bytes of an image. Raises one of UNREADABLE. Several threads may ask at a time."""
        ...

    def labels(self) -> np.ndarray | None:
        """int64 (images,), or None without classes."""
        ...


class ContentSummary(NamedTuple):
    """What the headers of all images say, and a hash of their contents. JSON when taken as a dict."""

    fingerprint: str  # sha256 over all names and contents
    sizes: list[tuple[int, int, int, str]]  # height, width, how many, the first of them; in order of appearance
    modes: list[tuple[str, int, str]]  # Pillow's colour mode, how many, the first of them
    frames: list[str]  # the first ones that have more than one frame, and how many more there are
    same: list[list[int]]  # numbers of images with equal contents
    unreadable: list[str]  # name and reason


def survey(pictures: Pictures, settings: ImageSettings, channels: int | None) -> tuple[Shape, ContentSummary]:
    """The common (C, H, W) before `crop` and `size` are applied, and what was found.

    Every image is read when the place is seen for the first time, or has changed since; else only the list is. What is
    left out is logged. Raises MissingError with everything that is wrong: unreadable images, colour modes or sizes
    that need a setting.
    """
    place, what = pictures.place, f"images, Pillow {PIL.__version__}"
    if pictures.left_out:
        logger.log(pictures.level, "%s: in %s %s", pictures.kind, place, pictures.left_out)
    kept = load(what, place, pictures.stamps)
    found = ContentSummary(**kept) if kept is not None else _look(pictures)
    if kept is None and not found.unreadable:
        store(what, place, pictures.stamps, found._asdict())
    if found.frames:
        logger.warning(
            "%s: only the first frame or page is taken of %s in %s", pictures.kind, ", ".join(found.frames), place
        )
    problems = [*_problems(pictures, found, settings, channels)]
    if problems:
        raise MissingError("\n".join(problems))
    largest = (max(height for height, *_ in found.sizes), max(width for _, width, *_ in found.sizes))
    return (channels or CHANNELS[found.modes[0][0]], *largest), found


def _look(pictures: Pictures) -> ContentSummary:
    """Read all images."""
    digest = hashlib.sha256()
    contents: list[bytes] = []
    unreadable: list[str] = []
    frames: list[str] = []
    sizes: dict[tuple[int, int], list[Any]] = {}
    modes: dict[str, list[Any]] = {}
    progress = Progress(f"{pictures.kind}: checking {pictures.place}, once", len(pictures), "files")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of metadata: damaged pixels are errors
        for number in range(len(pictures)):
            progress.at(number)
            try:
                content = pictures.content(number)
                contents.append(hashlib.sha256(content).digest())
                digest.update(pictures.identity(number) + f"\0{len(content)}\0".encode() + contents[-1])
                header = check(content)
            except UNREADABLE as error:
                unreadable.append(f"{pictures.name(number)} ({reason(error)})")
                continue
            if header.turned:
                digest.update(b"turned")
            if header.frames:
                frames.append(pictures.name(number))
            sizes.setdefault((header.height, header.width), [0, pictures.name(number)])[0] += 1
            modes.setdefault(header.mode, [0, pictures.name(number)])[0] += 1
    return ContentSummary(
        digest.hexdigest(),
        [(height, width, count, name) for (height, width), (count, name) in sizes.items()],
        [(mode, count, name) for mode, (count, name) in sorted(modes.items())],
        some(frames),
        groups_of(contents),
        unreadable,
    )


def _problems(
    pictures: Pictures, found: ContentSummary, settings: ImageSettings, channels: int | None
) -> Iterator[str]:
    where = f"{pictures.kind}: {pictures.place}"
    if found.unreadable:
        yield _unreadable(pictures, found.unreadable)
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
class PictureRows:
    """data.base.RowSource: the images `index`, decoded, cropped and brought to size as they are read.

    Columns: "image" uint8 (rows, C, H, W) and, with classes, "label" int64 (rows,).
    """

    pictures: Pictures
    settings: ImageSettings
    channels: int | None  # None: as they are
    index: np.ndarray
    labels: np.ndarray | None = None  # int64, of all images

    def __len__(self) -> int:
        return len(self.index)

    def read(self, first: int, last: int) -> Columns:
        """Rows first, ..., last - 1.

        Raises MissingError naming the images that can't be decoded, or that have changed since they were checked.
        """
        index = self.index[first:last].tolist()
        with warnings.catch_warnings(), ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            warnings.simplefilter("ignore")
            decoded = list(pool.map(self._decode, index))
        images = [image for image in decoded if not isinstance(image, str)]
        problems = [problem for problem in decoded if isinstance(problem, str)]
        problems += [
            f"{self.pictures.name(number)} (its size has changed)"
            for number, image in zip(index, decoded, strict=True)
            if not isinstance(image, str) and image.shape != images[0].shape
        ]
        if problems:
            raise MissingError(_unreadable(self.pictures, problems))
        columns = {"image": np.stack(images)}
        if self.labels is not None:
            columns["label"] = self.labels[index]
        return columns

    def _decode(self, number: int) -> np.ndarray | str:
        """uint8 (C, H, W), or what is wrong with the image."""
        try:
            return pixels(self.pictures.content(number), self.settings, self.channels)
        except UNREADABLE as error:
            return f"{self.pictures.name(number)} ({reason(error)})"


def _unreadable(pictures: Pictures, names: Sequence[str]) -> str:
    return (
        f"{pictures.kind}: {len(names)} unreadable images in {pictures.place}: replace or remove them\n  "
        + "\n  ".join(some(names))
    )
