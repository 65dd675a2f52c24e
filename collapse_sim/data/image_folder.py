"""A folder of png and jpg files, or one uint8 .npy of shape (N, H, W[, C])."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from collapse_sim.data.base import Info, RowSource
from collapse_sim.data.files import content_hash, open_npy
from collapse_sim.data.held_out import ShareOrCount, held_out_index, shuffled_split
from collapse_sim.data.image_files import FileRows, list_images, survey
from collapse_sim.data.images import ImageRows, ImageSettings, image_info
from collapse_sim.data.remember import Stamps, keep, recall
from collapse_sim.errors import MissingError


def image_split(held_out: float | int, rows: int, place: Path) -> tuple[np.ndarray, np.ndarray]:
    """held_out.shuffled_split of the images in `place`; raises MissingError when there is one only."""
    if rows < 2:
        raise MissingError(f"{place} has one image; needed: at least one to train on and one held out")
    return shuffled_split(held_out, rows, "images")


class ImageFolder(ImageSettings):
    """Images of your own: a folder of png and jpg files, or one uint8 .npy of shape (N, H, W[, C]).

    Held-out rows are the first ones of a fixed permutation; the real rows are the others, in that order.

    Files are taken from all levels of the folder in the order of their names. When every file lies in one of two or
    more subfolders, these are the classes, in the order of their names; else there are no labels.
    """

    path: Annotated[str, Field(min_length=1)]  # the folder or .npy; relative to the data folder, or absolute
    channels: Literal[1, 3] | None = None  # convert to grey (1) or RGB (3); default: as they are
    held_out: ShareOrCount = 0.2  # share (0.2) or number (500) of rows

    kind: ClassVar[str] = "images"
    seeded: ClassVar[bool] = False

    def describe(self) -> dict[str, Any]:
        """Without `path`: what lies there is known by its content (Info.fingerprint), and may be moved."""
        return {name: value for name, value in super().describe().items() if name != "path"}

    def inspect(self, folder: Path) -> Info:
        """Reads every file without decoding it, once. Raises MissingError for files, RecipeError for settings."""
        place = self._place(folder)
        if place.suffix == ".npy":
            images = _open_images(place)
            rows, classes, fingerprint = len(images), 0, _fingerprint(place, images)
            height, width, found = images.shape[1:]
            shape = (self.channels or found, height, width)
        else:
            listing = list_images("image_folder", place)
            shape, fingerprint = survey(listing, self, self.channels)
            rows, classes = len(listing.names), len(listing.classes)
        train, held_out = image_split(self.held_out, rows, place)
        return image_info(
            self, shape, pool=len(train), held_out=len(held_out), classes=classes, fingerprint=fingerprint
        )

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        place = self._place(folder)
        if place.suffix == ".npy":
            images = _open_images(place)
            train, held_out = self._split(len(images), place)
            return (
                ImageRows(self, images, None, train, self.channels),
                ImageRows(self, images, None, held_out, self.channels),
            )
        listing = list_images("image_folder", place)
        train, held_out = self._split(len(listing.names), place)
        labels = listing.labels()
        return (
            FileRows(listing, self, self.channels, train, labels),
            FileRows(listing, self, self.channels, held_out, labels),
        )

    def _place(self, folder: Path) -> Path:
        """Raises MissingError when it is neither a folder nor named like an array."""
        place = (folder / Path(self.path).expanduser()).absolute()
        if place.suffix != ".npy" and not place.is_dir():
            raise MissingError(
                f"image_folder: no folder {place}: set `data.path` to a folder of png or jpg files or to a .npy file, "
                "absolute or relative to --data-dir (COLLAPSE_SIM_DATA)"
            )
        return place

    def _split(self, rows: int, place: Path) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the rows to train on and of the held-out rows that are used."""
        train, held_out = image_split(self.held_out, rows, place)
        return train, held_out[held_out_index(self, len(held_out))]


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


def _fingerprint(path: Path, images: np.ndarray) -> str:
    """The content's hash, computed once."""
    stamps = Stamps.of([(path.name, path.stat())], time.time_ns())
    kept = recall("array", path, stamps)
    found = kept or {"fingerprint": content_hash(images=images)}
    if kept is None:
        keep("array", path, stamps, found)
    return str(found["fingerprint"])
