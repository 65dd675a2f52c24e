"""What all kinds of image data share: the common settings, and how rows are brought to one size.

These are plain functions on uint8 arrays of shape (n, H, W, C); each kind of data checks its files and calls them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from PIL import Image, ImageOps
from pydantic import Field, model_validator

from collapse_sim.core.errors import RecipeError
from collapse_sim.data.base import Columns, Info
from collapse_sim.data.data_files import release
from collapse_sim.data.held_out import check_rows
from collapse_sim.data.split import Divided

Shape = tuple[int, int, int]  # (C, H, W)
Count = Annotated[int, Field(gt=0)]

RELEASE_ROWS = 8  # rows of a memory-mapped file read between releases: each may map megabytes around it
MODES: Mapping[int, str] = {1: "L", 3: "RGB"}  # channels -> Pillow's mode


class ImageSettings(Divided):
    """Settings that every kind of image data has."""

    rows: Count | None = None
    """Number of real rows that generation 0 is fitted to; default: all. The other real rows are the reserve."""
    held_out_rows: Count | None = None
    """Largest number of held-out rows to use, a fixed random choice; default: all."""
    crop: Count | None = None
    """Side in pixels of the central square that is cropped first; default: no cropping."""
    size: Count | None = None
    """Side in pixels of the square that images are brought to; default: unchanged."""
    fit: Literal["resize", "pad"] = "resize"
    """How images are brought to `size`. resize: antialiased bilinear; pad: centred, surrounded by zeros."""

    @model_validator(mode="after")
    def _pad_needs_size(self) -> ImageSettings:
        if self.fit == "pad" and self.size is None:
            raise ValueError("`fit: pad` has no effect without `size`: set `size`, for example to 32")
        return self


def fitted_shape(settings: ImageSettings, shape: Shape) -> Shape:
    """The shape of a row after `crop`, `size` and `fit`.

    Raises RecipeError when an image is smaller than `crop`, or larger than `size` with `fit: pad`.
    """
    channels, height, width = shape
    size = settings.size
    if settings.crop is not None:
        if min(height, width) < settings.crop:
            raise RecipeError(
                f"data.crop: cannot crop {settings.crop}x{settings.crop} pixels from {height}x{width} images: "
                f"set `crop` to {min(height, width)} or less, or to null for no cropping"
            )
        height = width = settings.crop
    if size is None:
        return channels, height, width
    if settings.fit == "pad" and max(height, width) > size:
        raise RecipeError(
            f"data.size: cannot pad {height}x{width} images to {size}x{size}: "
            f"set `size` to {max(height, width)} or more, or `fit: resize`"
        )
    return channels, size, size


def image_info(
    settings: ImageSettings, shape: Shape, *, pool: int, held_out: int, classes: int, fingerprint: str
) -> Info:
    """The Info of image data with `pool` real and `held_out` held-out rows of `shape` (before `crop`, `size`, `fit`).

    Raises RecipeError when more rows are requested than there are.
    """
    check_rows(settings, pool, held_out)
    columns: dict[str, tuple[tuple[int, ...], str]] = {"image": (fitted_shape(settings, shape), "uint8")}
    if classes:
        columns["label"] = ((), "int64")
    return Info(
        kind="images",
        columns=columns,
        rows=settings.rows or pool,
        pool=pool,
        held_out=settings.held_out_rows or held_out,
        classes=classes,
        fingerprint=fingerprint,
    )


@dataclass(frozen=True, eq=False)
class ImageRows:
    """data.base.RowSource: the rows `index` (None: all) of `images`, cropped and brought to size when read.

    `images` are uint8 (n, H, W, C), memory-mapped or not; `labels` (n,) integers. Columns: "image" uint8
    (rows, C, H, W) and, with labels, "label" int64 (rows,).
    """

    settings: ImageSettings
    images: np.ndarray
    labels: np.ndarray | None = None
    index: np.ndarray | None = None
    channels: Literal[1, 3] | None = None  # None: unchanged

    def __len__(self) -> int:
        return len(self.images if self.index is None else self.index)

    def read(self, first: int, last: int) -> Columns:
        """Rows first, ..., last - 1."""
        index = np.arange(first, last) if self.index is None else self.index[first:last]
        images = np.empty((len(index), *self.images.shape[1:]), np.uint8)
        for start in range(0, len(index), RELEASE_ROWS):
            images[start : start + RELEASE_ROWS] = self.images[index[start : start + RELEASE_ROWS]]
            release(self.images)
        height, width, own_channels = images.shape[1:]
        channels = self.channels or own_channels
        shape = (channels, height, width)
        unchanged = (
            channels == own_channels and self.settings.crop is None and fitted_shape(self.settings, shape) == shape
        )
        if not unchanged:
            images = np.stack([fitted(Image.fromarray(_squeezed(image)), self.settings, channels) for image in images])
        columns = {"image": np.ascontiguousarray(images.transpose(0, 3, 1, 2))}
        if self.labels is not None:
            columns["label"] = self.labels[index].astype(np.int64)
        return columns


def fitted(image: Image.Image, settings: ImageSettings, channels: int) -> np.ndarray:
    """One image as uint8 (H, W, C), converted to `channels`, cropped and brought to the size in the settings.

    `resize` is Pillow's antialiased bilinear filter, whose integer arithmetic gives the same bytes on every machine; an
    image that is not square is first cropped to the central square. `crop` removes an odd pixel at the bottom and
    right, and `pad` adds it there.
    """
    if "transparency" in image.info:
        image = image.convert("RGBA")  # required by Pillow before a palette with transparency is converted further
    if image.mode != MODES[channels]:
        image = image.convert(MODES[channels])
    crop, size = settings.crop, settings.size
    if crop is not None:
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    if size is not None and image.size != (size, size):
        if settings.fit == "resize":
            image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
        else:
            canvas = Image.new(image.mode, (size, size))
            canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
            image = canvas
    return np.asarray(image).reshape(image.height, image.width, channels)


def _squeezed(image: np.ndarray) -> np.ndarray:
    """(H, W, 1) -> (H, W), the shape that Pillow expects for grey images."""
    return image[..., 0] if image.shape[-1] == 1 else image
