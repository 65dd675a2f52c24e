"""Encoded images, in files or in a dataset: read, check and hash all of them once, and decode them row by row."""

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
from collapse_sim.data.file_cache import FileStats, load, store
from collapse_sim.data.images.image_bytes import CHANNELS, UNREADABLE, check, pixels, reason
from collapse_sim.data.images.image_files import abbreviated
from collapse_sim.data.images.image_rows import ImageSettings, Shape
from collapse_sim.data.progress import Progress

THREADS = 8  # most threads that decode at the same time: Pillow releases the GIL while decoding

logger = logging.getLogger(__name__)


class Pictures(Protocol):
    """An ordered collection of encoded images."""

    @property
    def kind(self) -> str:
        """The kind of data, for messages."""
        ...

    @property
    def path(self) -> Path: ...

    @property
    def stamps(self) -> FileStats: ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; () for none."""
        ...

    @property
    def left_out(self) -> str:
        """A sentence on what is left out, or ""; `level` is its log level."""
        ...

    @property
    def level(self) -> int: ...

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """The name of an image in messages."""
        ...

    def identity(self, number: int) -> bytes:
        """What the content hash covers in addition to the content."""
        ...

    def content(self, number: int) -> bytes:
        """The bytes of an image. Raises one of UNREADABLE. Must be thread-safe."""
        ...

    def labels(self) -> np.ndarray | None:
        """int64 (images,), or None without classes."""
        ...


class ContentSummary(NamedTuple):
    """A summary of the headers of all images, and a hash of their contents. As a dict it is valid JSON."""

    fingerprint: str  # sha256 over all names and contents
    sizes: list[tuple[int, int, int, str]]  # height, width, count, name of the first; in order of appearance
    modes: list[tuple[str, int, str]]  # Pillow's colour mode, count, name of the first
    frames: list[str]  # the first images that have more than one frame, and how many more there are
    same: list[list[int]]  # groups of images with equal contents, by index
    unreadable: list[str]  # name and reason


def contents(pictures: Pictures) -> ContentSummary:
    """The summary of the contents. All images are read the first time and after a change; otherwise only the list of
    files is. What is left out is logged."""
    path, name = pictures.path, f"images, Pillow {PIL.__version__}"
    if pictures.left_out:
        logger.log(pictures.level, "%s: in %s %s", pictures.kind, path, pictures.left_out)
    cached = load(name, path, pictures.stamps)
    summary = ContentSummary(**cached) if cached is not None else _summarise(pictures)
    if cached is None and not summary.unreadable:
        store(name, path, pictures.stamps, summary._asdict())
    if summary.frames:
        logger.warning(
            "%s: only the first frame or page is used of %s in %s", pictures.kind, ", ".join(summary.frames), path
        )
    return summary


def survey(pictures: Pictures, settings: ImageSettings, channels: int | None) -> tuple[Shape, ContentSummary]:
    """The common (C, H, W) before `crop` and `size` are applied, and the summary of the contents (`contents`).

    Raises MissingError with all problems: unreadable images, colour modes or sizes that need a setting.
    """
    summary = contents(pictures)
    problems = [*_problems(pictures, summary, settings, channels)]
    if problems:
        raise MissingError("\n".join(problems))
    largest = (max(height for height, *_ in summary.sizes), max(width for _, width, *_ in summary.sizes))
    return (channels or CHANNELS[summary.modes[0][0]], *largest), summary


def _summarise(pictures: Pictures) -> ContentSummary:
    """Read and check all images."""
    digest = hashlib.sha256()
    contents: list[bytes] = []
    unreadable: list[str] = []
    frames: list[str] = []
    sizes: dict[tuple[int, int], list[Any]] = {}
    modes: dict[str, list[Any]] = {}
    progress = Progress(f"{pictures.kind}: checking {pictures.path}, once", len(pictures), "files")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings on metadata: damaged pixels are errors
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
        abbreviated(frames),
        groups_of(contents),
        unreadable,
    )


def _problems(
    pictures: Pictures, summary: ContentSummary, settings: ImageSettings, channels: int | None
) -> Iterator[str]:
    where = f"{pictures.kind}: {pictures.path}"
    if summary.unreadable:
        yield unreadable(pictures, summary.unreadable)
    modes = {mode for mode, *_ in summary.modes}
    if channels is None and (len(modes) > 1 or modes - set(CHANNELS)):
        listed = ", ".join(f"{count} {mode} (such as {name})" for mode, count, name in summary.modes)
        yield (
            f"{where} has colour modes that are mixed or neither L nor RGB: {listed}: "
            "set `data.channels` to 1 (grey) or 3 (RGB), which converts them"
        )
    if settings.size is None and settings.crop is None and len(summary.sizes) > 1:
        yield (
            f"{where} has images of {len(summary.sizes)} sizes: {_sizes(summary.sizes)}: "
            "set `data.size`, which brings all to one size"
        )
    small = [size for size in summary.sizes if settings.crop is not None and min(size[:2]) < settings.crop]
    if small:
        yield (
            f"{where} has images that are smaller than the crop, {settings.crop}x{settings.crop}: "
            f"{_sizes(small)}: remove them, or set `data.crop` to {min(min(size[:2]) for size in small)} or less, "
            "or to null for no cropping"
        )


def _sizes(sizes: Sequence[tuple[int, int, int, str]]) -> str:
    """The three most common sizes, as text."""
    common = Counter({(height, width, name): count for height, width, count, name in sizes}).most_common(3)
    listed = ", ".join(f"{count} of {height}x{width} (such as {name})" for (height, width, name), count in common)
    return listed + (f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else "")


@dataclass(frozen=True, eq=False)
class PictureRows:
    """data.base.RowSource: the images `index`, decoded, cropped and brought to size when read.

    Columns: "image" uint8 (rows, C, H, W) and, with classes, "label" int64 (rows,).
    """

    pictures: Pictures
    settings: ImageSettings
    channels: int | None  # None: unchanged
    index: np.ndarray
    labels: np.ndarray | None = None  # int64, of all images

    def __len__(self) -> int:
        return len(self.index)

    def read(self, first: int, last: int) -> Columns:
        """Rows first, ..., last - 1.

        Raises MissingError naming the images that cannot be decoded, or that have changed since they were checked.
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
            raise MissingError(unreadable(self.pictures, problems))
        columns = {"image": np.stack(images)}
        if self.labels is not None:
            columns["label"] = self.labels[index]
        return columns

    def _decode(self, number: int) -> np.ndarray | str:
        """uint8 (C, H, W), or a text that says what is wrong with the image."""
        try:
            return pixels(self.pictures.content(number), self.settings, self.channels)
        except UNREADABLE as error:
            return f"{self.pictures.name(number)} ({reason(error)})"


def unreadable(pictures: Pictures, names: Sequence[str]) -> str:
    """The message about images that cannot be read."""
    return (
        f"{pictures.kind}: {len(names)} unreadable images in {pictures.path}: replace or remove them\n  "
        + "\n  ".join(abbreviated(names))
    )
