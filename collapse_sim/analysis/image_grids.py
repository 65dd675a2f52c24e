"""Pictures of samples: a grid of one generation, all arms by generations with the same latents in every cell, or the
classes of an arm by generations.

Small images are enlarged by an integer factor without smoothing, so that single pixels of a sample can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from collapse_sim.analysis.drawing import labels, scratch_file
from collapse_sim.analysis.fonts import for_pillow

Images = NDArray[np.uint8]
_Row = tuple[str, list[NDArray[np.uint8] | None]]  # label, one picture (h, w, 3) per column

_SMALLEST = 40  # pixels, at least, of an image's shorter side
_GAP = 2  # pixels between images of a grid
_MARGIN = 12  # pixels around cells and labels
_TYPE = 14  # pixels
_BETWEEN = 200  # grey level of the gaps, unlike the black or white edges of most images


def sample_grid(images: Images, path: Path, columns: int) -> None:
    """Write images, uint8 (n, C, H, W) with C 1 or 3, row by row in `columns` columns.

    Raises ValueError for another shape or dtype, StoreError if the file cannot be written.
    """
    _save(Image.fromarray(_tiled(images, columns)), path)


def arms_by_generations(images: Mapping[str, Mapping[int, Images]], real: Images, path: Path) -> None:
    """Write one picture: a row per arm, a column per generation, each cell a small grid of that generation's samples.

    `images[arm][generation]` and `real` are uint8 (n, C, H, W); the caller uses the same latents for the same image
    index everywhere. The top row shows real images, different ones in each column, as far as they fill entire cells.
    Cells without images stay empty. Raises ValueError if there is no image at all, StoreError if the file cannot be
    written.
    """
    generations = sorted({k for by_generation in images.values() for k in by_generation})
    if not generations:
        raise ValueError("no samples to draw")
    count = len(next(cell for by_generation in images.values() for cell in by_generation.values()))
    across = math.ceil(math.sqrt(count))
    parts = [real[i * count : (i + 1) * count] for i in range(len(generations))]
    shown = [len(part) == count or (i == 0 and len(part) > 0) for i, part in enumerate(parts)]
    cells = [_tiled(part, across) if show else None for part, show in zip(parts, shown, strict=True)]
    rows: list[_Row] = [("real data", cells)]
    for arm, by_generation in images.items():
        rows.append((arm, [_tiled(by_generation[k], across) if k in by_generation else None for k in generations]))
    _save(_sheet(rows, [f"generation {k}" for k in generations], above=1), path)


def classes_by_generations(images: Mapping[str, Mapping[int, Images]], real: Mapping[str, Images], path: Path) -> None:
    """Write one picture of an arm: a row per class, a column of real images and one per generation, cells as above.

    `images[class][generation]` and `real[class]` are uint8 (n, C, H, W). Cells without images stay empty. Raises
    ValueError if there is no image at all, StoreError if the file cannot be written.
    """
    generations = sorted({k for by_generation in images.values() for k in by_generation})
    cells = [*real.values(), *(cell for by_generation in images.values() for cell in by_generation.values())]
    if not cells:
        raise ValueError("no samples to draw")
    across = math.ceil(math.sqrt(max(map(len, cells))))
    rows: list[_Row] = []
    for name, by_generation in images.items():
        of_class = [real.get(name), *(by_generation.get(k) for k in generations)]
        rows.append((name, [None if cell is None else _tiled(cell, across) for cell in of_class]))
    _save(_sheet(rows, ["real data", *(f"generation {k}" for k in generations)], above=0), path)


def arms_by_frames(images: Mapping[str, Images], path: Path) -> None:
    """Write one picture: a row per arm, a column per point in time between pure noise and the finished sample.

    `images[arm]` is uint8 (frames, C, H, W), equally spaced in time. Raises StoreError if the file cannot be written.
    """
    last = max(map(len, images.values())) - 1
    headings = ["noise", *(f"{round(100 * i / last)} %" for i in range(1, last)), "sample"]
    rows: list[_Row] = [(arm, [_tiled(frame[None], 1) for frame in frames]) for arm, frames in images.items()]
    _save(_sheet(rows, headings, above=0), path)


def _tiled(images: Images, columns: int) -> NDArray[np.uint8]:
    """(n, C, H, W) -> one (h, w, 3) picture of the enlarged images with gaps between them."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"expected uint8 images of shape (n, 1 or 3, H, W), found {images.dtype} {images.shape}")
    n, _, height, width = images.shape
    columns = min(columns, n)
    factor = max(1, math.ceil(_SMALLEST / min(height, width)))
    big = np.broadcast_to(images, (n, 3, height, width)).repeat(factor, axis=2).repeat(factor, axis=3)
    height, width = height * factor, width * factor
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), _BETWEEN, dtype=np.uint8)
    for i, image in enumerate(big.transpose(0, 2, 3, 1)):
        top, left = i // columns * (height + _GAP), i % columns * (width + _GAP)
        canvas[top : top + height, left : left + width] = image
    return canvas


def _sheet(rows: list[_Row], headings: list[str], above: int) -> Image.Image:
    """Rows of cells with labels to their left; the headings are below the first `above` rows."""
    names = labels(label for label, _ in rows)
    fonts = {label: for_pillow(name, _TYPE) for label, name in names.items()}
    font = for_pillow("", _TYPE)
    shapes = [picture.shape for _, cells in rows for picture in cells if picture is not None]
    height, width = max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
    left = 2 * _MARGIN + max(math.ceil(fonts[label].getlength(name)) for label, name in names.items())
    right = _MARGIN + max(width, *(math.ceil(font.getlength(heading)) for heading in headings))
    down, band = height + _MARGIN, _TYPE + 2 * _MARGIN
    sheet = Image.new("RGB", (left + right * len(headings), _MARGIN + band + down * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for j, heading in enumerate(headings):
        middle = (left + j * right + width / 2, _MARGIN + above * down + band / 2)
        draw.text(middle, heading, "black", font, anchor="mm")
    for i, (label, cells) in enumerate(rows):
        top = _MARGIN + i * down + (band if i >= above else 0)
        draw.text((left - _MARGIN, top + height / 2), names[label], "black", fonts[label], anchor="rm")
        for j, picture in enumerate(cells):
            if picture is not None:
                sheet.paste(Image.fromarray(picture), (left + j * right, top))
    return sheet


def _save(picture: Image.Image, path: Path) -> None:
    with scratch_file(path) as scratch:
        picture.save(scratch)
