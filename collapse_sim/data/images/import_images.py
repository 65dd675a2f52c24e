"""Generated images: a folder of image files, a dataset on disk, or one uint8 .npy of shape (N, H, W[, C])."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from collapse_sim.core.errors import MissingError
from collapse_sim.core.hashing import digest_of
from collapse_sim.data.base import Info
from collapse_sim.data.data_files import is_folder
from collapse_sim.data.images.image_files import SUFFIXES, Listing, list_images
from collapse_sim.data.images.image_folder import array_summary, open_images
from collapse_sim.data.images.image_rows import MODES, ImageRows, ImageSettings
from collapse_sim.data.images.image_sets import find_dataset, open_dataset
from collapse_sim.data.images.image_survey import ContentSummary, PictureRows, Pictures, contents, unreadable
from collapse_sim.data.imported_rows import CHANGED, ImportedRows

KIND = "rows_from"  # begins messages
NAMED = 3  # sizes or colour modes that a message names


def image_rows(path: Path, info: Info, needed: Sequence[str]) -> ImportedRows:
    """The images at `path`, in the order of their names or rows. Nothing is converted or brought to another size.

    Labels are read if the data has any: from a dataset, or from subfolders that are named by them (0, 1, ...). Raises
    MissingError with everything that does not fit the data.
    """
    if path.suffix == ".npy":
        return _of_array(path, info, needed)
    pictures = _pictures(path)
    summary = contents(pictures)
    if summary.unreadable:
        raise MissingError(unreadable(pictures, summary.unreadable))
    labels = _labels(pictures) if info.classes else None
    problems = [*_misfits(summary, info), *_wrong_labels(labels, info, needed)]
    if problems:
        raise MissingError(f"{path}: {'; '.join(problems)}")

    def opened() -> PictureRows:
        if contents(_pictures(path)).fingerprint != summary.fingerprint:
            raise MissingError(CHANGED.format(path))
        return PictureRows(pictures, ImageSettings(), None, np.arange(len(pictures)), labels)

    columns = ("image",) if labels is None else ("image", "label")
    return ImportedRows(str(path), len(pictures), columns, summary.fingerprint, opened)


def _pictures(path: Path) -> Pictures:
    dataset = find_dataset(path)
    if dataset is not None:
        return open_dataset(KIND, path, dataset)
    if is_folder(path):
        return list_images(KIND, path)
    raise MissingError(
        f"{path}: images are read from a folder of files ending in {', '.join(SUFFIXES)}, from .npz, .npy and .parquet "
        "files, and from folders of Dataset.save_to_disk"
    )


def _of_array(path: Path, info: Info, needed: Sequence[str]) -> ImportedRows:
    images = open_images(path)
    height, width, channels = images.shape[1:]
    problems = [*_wrong_labels(None, info, needed)]
    if (channels, height, width) != info.shape("image"):
        problems.append(f"images of {_text((channels, height, width))}; needed: {_text(info.shape('image'))}")
    if problems:
        raise MissingError(f"{path}: {'; '.join(problems)}")
    content, _ = array_summary(path, images)

    def opened() -> ImageRows:
        again = open_images(path)
        if array_summary(path, again)[0] != content:
            raise MissingError(CHANGED.format(path))
        return ImageRows(ImageSettings(), again)

    return ImportedRows(str(path), len(images), ("image",), digest_of(["channels last", content]), opened)


def _misfits(summary: ContentSummary, info: Info) -> Iterator[str]:
    channels, height, width = info.shape("image")
    sizes = [size for size in summary.sizes if (size[0], size[1]) != (height, width)]
    if sizes:
        listed = ", ".join(f"{count} images of {h}x{w} pixels (such as {name})" for h, w, count, name in sizes[:NAMED])
        yield f"{listed}{_more(len(sizes))}; needed: {height}x{width}, as the data has"
    modes = [mode for mode in summary.modes if mode[0] != MODES[channels]]
    if modes:
        listed = ", ".join(f"{count} images in colour mode {mode} (such as {name})" for mode, count, name in modes)
        yield f"{listed}; needed: {MODES[channels]}, as the data has"


def _more(count: int) -> str:
    return f" and {count - NAMED} more sizes" if count > NAMED else ""


def _text(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{height}x{width} pixels and {channels} channel{'s' * (channels > 1)}"


def _labels(pictures: Pictures) -> np.ndarray | None:
    """int64 (images,); None without labels. A dataset has numbers; in a folder they are the names of subfolders, since
    classes that died have none."""
    numbers = pictures.labels()
    if numbers is None or not isinstance(pictures, Listing):
        return numbers
    if not all(name.isdecimal() for name in pictures.classes):
        return None
    labels: np.ndarray = np.array([int(name) for name in pictures.classes], np.int64)[numbers]
    return labels


def _wrong_labels(labels: np.ndarray | None, info: Info, needed: Sequence[str]) -> Iterator[str]:
    if labels is None:
        if "label" in needed:
            yield "no labels; needed: a subfolder for each class, named by its number, or a dataset with a ClassLabel"
    elif len(labels) and (labels.min() < 0 or labels.max() >= info.classes):
        wrong = labels[(labels < 0) | (labels >= info.classes)][0]
        yield f"label {wrong}; allowed: 0 to {info.classes - 1}"
