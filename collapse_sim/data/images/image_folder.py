"""The user's own images: a folder of files, a dataset on disk, or one uint8 .npy of shape (N, H, W[, C])."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from collapse_sim.core.errors import MissingError
from collapse_sim.data.base import Info, RowSource
from collapse_sim.data.data_files import check_regular, content_hash, is_folder, open_npy
from collapse_sim.data.duplicates import groups_of, row_digests, warn_of_shared_rows
from collapse_sim.data.file_cache import FileStats, load, store
from collapse_sim.data.held_out import ShareOrCount, held_out_index, shuffled_split
from collapse_sim.data.images.image_files import list_images
from collapse_sim.data.images.image_rows import ImageRows, ImageSettings, image_info
from collapse_sim.data.images.image_sets import find_dataset, open_dataset
from collapse_sim.data.images.image_survey import PictureRows, Pictures, survey

KIND = "image_folder"


def image_split(held_out: float | int, rows: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """held_out.shuffled_split of the images in `path`; raises MissingError when there is only one."""
    if rows < 2:
        raise MissingError(f"{path} has one image; needed: at least one to train on and one held out")
    return shuffled_split(held_out, rows, "images")


class ImageFolder(ImageSettings):
    """Your own images: a folder of image files, a Hugging Face dataset on disk, or one uint8 .npy.

    The held-out rows are the first ones of a fixed permutation; the real rows are the others, in that order.

    Files are read from all levels of the folder in the order of their names. If every file is in one of two or more
    subfolders, these are the classes, in the order of their names; otherwise there are no labels.
    """

    path: Annotated[str, Field(min_length=1)]
    """The folder, .npy file or dataset; relative to the data folder, or absolute."""
    channels: Literal[1, 3] | None = None
    """Convert to grey (1) or RGB (3); default: unchanged."""
    held_out: ShareOrCount = 0.2
    """Share (0.2) or number (500) of rows to hold out."""

    kind: ClassVar[str] = "images"
    seeded: ClassVar[bool] = False
    not_in_key: ClassVar[tuple[str, ...]] = ("path",)  # the content is in the key, so the files may be moved

    def inspect(self, folder: Path) -> Info:
        """Reads each image once, mostly without decoding it. Raises MissingError for files, RecipeError for settings.

        Logs what is left out, and held-out images that are also among the real ones.
        """
        path, images = self._find(folder)
        if isinstance(images, np.ndarray):
            fingerprint, same = array_summary(path, images)
            height, width, own_channels = images.shape[1:]
            shape, classes = (self.channels or own_channels, height, width), 0
        else:
            shape, summary = survey(images, self, self.channels)
            fingerprint, same, classes = summary.fingerprint, summary.same, len(images.classes)
        train, held_out = image_split(self.held_out, len(images), path)
        name = (lambda row: f"row {row}") if isinstance(images, np.ndarray) else images.name
        warn_of_shared_rows(KIND, "images", same, train, held_out, name)
        return image_info(
            self, shape, pool=len(train), held_out=len(held_out), classes=classes, fingerprint=fingerprint
        )

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        path, images = self._find(folder)
        train, held_out = image_split(self.held_out, len(images), path)
        held_out = held_out[held_out_index(self, len(held_out))]
        if isinstance(images, np.ndarray):
            return (
                ImageRows(self, images, None, train, self.channels),
                ImageRows(self, images, None, held_out, self.channels),
            )
        labels = images.labels()
        return (
            PictureRows(images, self, self.channels, train, labels),
            PictureRows(images, self, self.channels, held_out, labels),
        )

    def _find(self, folder: Path) -> tuple[Path, np.ndarray | Pictures]:
        """The path of the images, and the images: an array, uint8 (N, H, W, C), or encoded ones.

        Raises MissingError when they are in none of the supported forms.
        """
        path = (folder / Path(self.path).expanduser()).absolute()
        if path.suffix == ".npy":
            return path, open_images(path)
        dataset = find_dataset(path)
        if dataset is not None:
            return path, open_dataset(KIND, path, dataset)
        if not is_folder(path):
            raise MissingError(
                f"{KIND}: no folder {path}: set `data.path` to a folder of image files, to a .npy file or to a "
                "dataset on disk, absolute or relative to --data-dir (COLLAPSE_SIM_DATA)"
            )
        return path, list_images(KIND, path)


def open_images(path: Path) -> np.ndarray:
    """The images of a .npy file, uint8 (N, H, W, C), memory-mapped. Raises MissingError for any other array."""
    images = open_npy(path)
    allowed = "needed: uint8 of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3)"
    found_text = f"found {images.dtype.name} of shape {images.shape}"
    if images.dtype != np.uint8:
        raise MissingError(f"{path}: {allowed}; {found_text}: scale the values to 0..255 and save them as uint8")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        channels_first = images.ndim == 4 and images.shape[1] in (1, 3)
        hint = ": channels come last, save array.transpose(0, 2, 3, 1)" if channels_first else ""
        hint = ": it is empty" if 0 in images.shape else hint
        raise MissingError(f"{path}: {allowed}; {found_text}{hint}")
    return images


def array_summary(path: Path, images: np.ndarray) -> tuple[str, list[list[int]]]:
    """The content hash, and groups of equal rows by index: computed once."""
    stamps = FileStats.of([(path.name, check_regular(path))], time.time_ns())
    summary = load("array", path, stamps)
    if summary is None:
        summary = {"fingerprint": content_hash(images=images), "same": groups_of(row_digests(images))}
        store("array", path, stamps, summary)
    return str(summary["fingerprint"]), summary["same"]
