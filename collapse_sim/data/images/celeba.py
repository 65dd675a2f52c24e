"""CelebA's aligned and cropped faces, in torchvision's layout, or any folder of images prepared in the same way."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from collapse_sim.core.errors import MissingError
from collapse_sim.data.base import Info, RowSource
from collapse_sim.data.data_files import is_folder, read_text
from collapse_sim.data.duplicates import warn_of_shared_rows
from collapse_sim.data.held_out import held_out_index, share_or_count
from collapse_sim.data.images.image_files import Listing, list_images
from collapse_sim.data.images.image_folder import image_split
from collapse_sim.data.images.image_rows import Count, ImageSettings, image_info
from collapse_sim.data.images.image_survey import PictureRows, survey

IMAGES, PARTITIONS = "img_align_celeba", ("list_eval_partition.txt", "list_eval_partition.csv")
HEADER = ["image_id", "partition"]  # of the .csv
TRAIN = 0  # the number of the training part in the list
HELD_OUT = {"valid": (1,), "test": (2,), "valid+test": (1, 2)}


def _part_share_or_count(value: Any) -> Any:
    if isinstance(value, str):
        if value not in HELD_OUT:
            raise ValueError(
                f"{value!r} is not a part of CelebA: allowed: {', '.join(HELD_OUT)}, a share or a number of rows"
            )
        return value
    return share_or_count(value)


class CelebA(ImageSettings):
    """202,599 photographs of faces, 178x218 pixels: the central 140x140 resized to 64x64, with the official split.

    Liu et al. 2015, aligned and cropped; no person is in two parts. Score models also crop to 140 (arXiv 2011.13456).
    """

    path: Annotated[str, Field(min_length=1)] = "celeba"
    """The folder of the images and the list; relative to the data folder, or absolute."""
    crop: Count | None = 140
    """Side in pixels of the central square that is cropped first; null: no cropping."""
    size: Count | None = 64
    """Side in pixels of the square that images are brought to; null: unchanged."""
    channels: Literal[1, 3] | None = 3
    """Convert to grey (1) or RGB (3); null: unchanged."""
    held_out: Annotated[Literal["test", "valid", "valid+test"] | int | float, BeforeValidator(_part_share_or_count)] = (
        "test"
    )
    """"test", "valid" or "valid+test" of the official split; or a share (0.2) or number (500) of all images."""

    kind: ClassVar[str] = "images"
    seeded: ClassVar[bool] = False
    not_in_key: ClassVar[tuple[str, ...]] = ("path",)  # the content is in the key, so the files may be moved

    def inspect(self, folder: Path) -> Info:
        """Reads FOLDER/celeba/img_align_celeba and list_eval_partition.txt or .csv next to it, each file once."""
        listing, parts = self._find(folder)
        shape, summary = survey(listing, self, self.channels)
        fingerprint = summary.fingerprint
        if parts is not None:
            fingerprint = hashlib.sha256(fingerprint.encode() + parts.tobytes()).hexdigest()
        train, held_out = self._split(listing, parts)
        warn_of_shared_rows("celeba", "images", summary.same, train, held_out, listing.name)
        return image_info(self, shape, pool=len(train), held_out=len(held_out), classes=0, fingerprint=fingerprint)

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        listing, parts = self._find(folder)
        train, held_out = self._split(listing, parts)
        held_out = held_out[held_out_index(self, len(held_out))]
        return PictureRows(listing, self, self.channels, train), PictureRows(listing, self, self.channels, held_out)

    def _find(self, folder: Path) -> tuple[Listing, np.ndarray | None]:
        """The images, and the official part of each, uint8 (files,); None if that does not decide what is held out."""
        root = (folder / Path(self.path).expanduser()).absolute()
        image_folder = root
        for _ in range(2):  # Kaggle has a folder of this name in a folder of this name
            image_folder = image_folder / IMAGES if is_folder(image_folder / IMAGES) else image_folder
        if not is_folder(image_folder):
            raise MissingError(
                f"celeba: no data in {root}\n"
                f"  looked for: {root / IMAGES}/*.jpg with {root / PARTITIONS[0]}, or images in {root} itself\n"
                f"{_advice(root)}"
            )
        listing = list_images("celeba", image_folder)
        if not isinstance(self.held_out, str):
            return listing, None
        grandparent = [image_folder.parent.parent] if image_folder.parent.name == IMAGES else []
        candidates = [*dict.fromkeys((root, image_folder, image_folder.parent, *grandparent))]
        lists = [path / name for path in candidates for name in PARTITIONS if os.path.lexists(path / name)]
        if not lists:
            raise MissingError(
                f"celeba: images in {image_folder}, but no list that says which of them are held out\n"
                f"  looked for: {', '.join(str(path / PARTITIONS[0]) for path in candidates)} (or .csv)\n"
                "  put it there, or set `data.held_out` to a share (such as 0.1) or a number of the images\n"
                f"{_advice(root)}"
            )
        return listing, _parts(lists[0], listing)

    def _split(self, listing: Listing, parts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the files to train on and of the held-out ones; other parts of the official split are not used."""
        if not isinstance(self.held_out, str):
            return image_split(self.held_out, len(listing.names), listing.path)
        assert parts is not None
        train, held_out = np.flatnonzero(parts == TRAIN), np.flatnonzero(np.isin(parts, HELD_OUT[self.held_out]))
        if not len(train) or not len(held_out):
            raise MissingError(
                f"celeba: {listing.path} has {len(train)} images of the part `train` and {len(held_out)} of "
                f"`{self.held_out}`; needed: at least one of each: set `data.held_out` to another part or to a share"
            )
        return train, held_out


def _parts(path: Path, listing: Listing) -> np.ndarray:
    """The part of each file, uint8 (files,), from lines such as "000001.jpg 0", or in a .csv "000001.jpg,0".

    If no name in the list matches, names are compared without endings (some copies have PNG files).
    Raises MissingError for other lines, and when the list and the folder do not name the same files.
    """
    part_of: dict[str, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split("," if path.suffix == ".csv" else None)
        if number == 1 and words == HEADER:
            continue
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise MissingError(
                f"{path}: line {number} is {line[:60]!r}; needed: a file and its part (0 train, 1 valid, 2 test), "
                'as in "000001.jpg 0"'
            )
        part_of[words[0]] = int(words[1])
    file_names = listing.names
    if not part_of.keys() & set(file_names):
        part_of = {PurePath(name).stem: part for name, part in part_of.items()}
        file_names = tuple(PurePath(name).stem for name in file_names)
    unlisted = [name for name in file_names if name not in part_of]
    missing = sorted(part_of.keys() - set(file_names))
    for names, problem in (
        (missing, f"{listing.path} lacks {len(missing)} of the {len(part_of)} images in {path.name}"),
        (unlisted, f"{path} lacks {len(unlisted)} of the {len(listing.names)} images in {listing.path}"),
    ):
        if names:
            raise MissingError(
                f"celeba: {problem}, such as {names[0]}: unpack them again, or set `data.held_out` to a share of the "
                "images such as 0.1, which needs no list"
            )
    return np.array([part_of[name] for name in file_names], np.uint8)


def _advice(root: Path) -> str:
    return (
        "  name their folder with `data.path`, --data-dir or COLLAPSE_SIM_DATA, or download them once with:\n"
        f'  python -c "from torchvision.datasets import CelebA; CelebA({str(root.parent)!r}, download=True)"'
    )
