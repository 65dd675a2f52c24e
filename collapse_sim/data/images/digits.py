"""scikit-learn's 1,797 handwritten digits of 8x8 pixels: they come with the package, so no files are needed."""

from __future__ import annotations

import base64
import contextlib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from collapse_sim.core.errors import StoreError
from collapse_sim.core.hashing import digest_of
from collapse_sim.data.base import Info, RowSource
from collapse_sim.data.data_files import content_hash
from collapse_sim.data.file_cache import cache_folder, seal, unsealed
from collapse_sim.data.held_out import held_out_index
from collapse_sim.data.images.image_rows import ImageRows, ImageSettings, image_info

HELD_OUT = 360
CLASSES = 10


class Digits(ImageSettings):
    """1,797 handwritten digits of 8x8 pixels, always available: 1,437 to train on and 360 held out.

    The test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998); 0..16 are scaled to 0..255.

    The split is stratified by class, shuffled, and always the same.
    """

    kind: ClassVar[str] = "images"
    seeded: ClassVar[bool] = False

    def inspect(self, folder: Path) -> Info:
        """`folder` is not used."""
        images, labels, train, held_out = _split_digits()
        order = np.concatenate([train, held_out])
        fingerprint = content_hash(images=images[order], labels=labels[order])
        return image_info(
            self, (1, 8, 8), pool=len(train), held_out=len(held_out), classes=CLASSES, fingerprint=fingerprint
        )

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        images, labels, train, held_out = _split_digits()
        held_out = held_out[held_out_index(self, len(held_out))]
        return ImageRows(self, images, labels, train), ImageRows(self, images, labels, held_out)


@cache
def _split_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images uint8 (1797, 8, 8, 1), labels int64 (1797,), and the row indices of the two parts of the split.

    Kept in the cache of facts about files: importing scikit-learn takes longer than anything else before the first fit.
    """
    kept: dict[str, Any] | None = None
    with contextlib.suppress(RuntimeError):  # there is no home folder
        kept = unsealed(_cache_file())
    if kept is None:
        kept = _read_digits()
        with contextlib.suppress(OSError, RuntimeError, StoreError):
            seal(_cache_file(), kept)
    images = np.frombuffer(base64.b64decode(kept["images"]), np.uint8).reshape(-1, 8, 8, 1)
    labels, train, held_out = (np.array(kept[name], dtype=np.int64) for name in ("labels", "train", "held_out"))
    return images, labels, train, held_out


def _cache_file() -> Path:
    return cache_folder() / "files" / f"{digest_of(['digits', version('scikit-learn')])}.json"


def _read_digits() -> dict[str, Any]:
    """The same as JSON, from scikit-learn."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    values, labels = load_digits(return_X_y=True)
    images = np.rint(values * (255 / 16)).astype(np.uint8)
    train, held_out = train_test_split(np.arange(len(labels)), test_size=HELD_OUT, stratify=labels, random_state=0)
    return {
        "images": base64.b64encode(images.tobytes()).decode("ascii"),
        "labels": labels.tolist(),
        "train": train.tolist(),
        "held_out": held_out.tolist(),
    }
