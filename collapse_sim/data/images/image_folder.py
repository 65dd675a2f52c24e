"""Images of one's own: a folder of files, a dataset on disk, or one uint8 .npy of shape (N, H, W[, C])."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from collapse_sim.core.errors import MissingError
from collapse_sim.data.base import Info, RowSource
from collapse_sim.data.data_files import content_hash, is_folder, open_npy, regular
from collapse_sim.data.duplicates import groups_of, row_digests, say_shared
from collapse_sim.data.held_out import ShareOrCount, held_out_index, shuffled_split
from collapse_sim.data.images.image_files import list_images
from collapse_sim.data.images.image_rows import ImageRows, ImageSettings, image_info
from collapse_sim.data.images.image_sets import find_dataset, open_dataset
from collapse_sim.data.images.image_survey import PictureRows, Pictures, survey
from collapse_sim.data.remember import FileStats, load, store

KIND = "image_folder"


def image_split(held_out: float | int, rows: int, place: Path) -> tuple[np.ndarray, np.ndarray]:
    """held_out.shuffled_split of the images in `place`; raises MissingError when there is one only."""
    if rows < 2:
        raise MissingError(f"{place} has one image; needed: at least one to train on and one held out")
    return shuffled_split(held_out, rows, "images")


class ImageFolder(ImageSettings):
    """Images of your own: a folder of image files, a Hugging Face dataset on disk, or one uint8 .npy.

    Held-out rows are the first ones of a fixed permutation; the real rows are the others, in that order.

    Files are taken from all levels of the folder in the order of their names. When every file lies in one of two or
    more subfolders, these are the classes, in the order of their names; else there are no labels.
    """

    path: Annotated[str, Field(min_length=1)]
    """The folder or .npy; relative to the data folder, or absolute."""
    channels: Literal[1, 3] | None = None
    """Convert to grey (1) or RGB (3); default: as they are."""
    held_out: ShareOrCount = 0.2
    """Share (0.2) or number (500) of rows."""

    kind: ClassVar[str] = "images"
    seeded: ClassVar[bool] = False
    not_in_key: ClassVar[tuple[str, ...]] = ("path",)  # what lies there is known by its content, and may be moved

    def inspect(self, folder: Path) -> Info:
        """Reads every image once, mostly without decoding it. Raises MissingError for files, RecipeError for settings.

        What is left out, and held-out images that are among the real ones too, are logged.
        """
        place, images = self._find(folder)
        if isinstance(images, np.ndarray):
            fingerprint, same = _look(place, images)
            height, width, found = images.shape[1:]
            shape, classes = (self.channels or found, height, width), 0
        else:
            shape, survey_of = survey(images, self, self.channels)
            fingerprint, same, classes = survey_of.fingerprint, survey_of.same, len(images.classes)
        train, held_out = image_split(self.held_out, len(images), place)
        name = (lambda row: f"row {row}") if isinstance(images, np.ndarray) else images.name
        say_shared(KIND, "images", same, train, held_out, name)
        return image_info(
            self, shape, pool=len(train), held_out=len(held_out), classes=classes, fingerprint=fingerprint
        )

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        place, images = self._find(folder)
        train, held_out = image_split(self.held_out, len(images), place)
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
        """Where the images are, and the images: an array, uint8 (N, H, W, C), or encoded ones.

        Raises MissingError when they are in none of the forms that are read.
        """
        place = (folder / Path(self.path).expanduser()).absolute()
        if place.suffix == ".npy":
            return place, _open_images(place)
        dataset = find_dataset(place)
        if dataset is not None:
            return place, open_dataset(KIND, place, dataset)
        if not is_folder(place):
            raise MissingError(
                f"{KIND}: no folder {place}: set `data.path` to a folder of image files, to a .npy file or to a "
                "dataset on disk, absolute or relative to --data-dir (COLLAPSE_SIM_DATA)"
            )
        return place, list_images(KIND, place)


def _open_images(path: Path) -> np.ndarray:
    """uint8 (N, H, W, C), memory-mapped."""
    images = open_npy(path)
    allowed = "needed: uint8 of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3)"
    found = f"found {images.dtype.name} of shape {images.shape}"
    if images.dtype != np.uint8:
        raise MissingError(f"{path}: {allowed}; {found}: scale the values to 0..255 and save them as uint8")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        channels_first = images.ndim == 4 and images.shape[1] in (1, 3)
        hint = ": channels come last, save array.transpose(0, 2, 3, 1)" if channels_first else ""
        hint = ": it is empty" if 0 in images.shape else hint
        raise MissingError(f"{path}: {allowed}; {found}{hint}")
    return images


def _look(path: Path, images: np.ndarray) -> tuple[str, list[list[int]]]:
    """The content's hash, and the numbers of equal rows: computed once."""
    stamps = FileStats.of([(path.name, regular(path))], time.time_ns())
    found = load("array", path, stamps)
    if found is None:
        found = {"fingerprint": content_hash(images=images), "same": groups_of(row_digests(images))}
        store("array", path, stamps, found)
    return str(found["fingerprint"]), found["same"]
