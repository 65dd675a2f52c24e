"""Held-out images that are trained on too, under another name: they are counted, and said."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from collapse_sim.data.duplicates import groups_of, row_digests
from collapse_sim.data.images.celeba import CelebA
from collapse_sim.data.images.image_folder import ImageFolder

from .making import rows_of, tagged, write_celeba, write_pictures

SAID = "held-out images have the same content as one that is trained on"


@pytest.mark.parametrize("form", ["files", "array"])
@pytest.mark.parametrize("held_out", [5, 0.3, 20])
def test_copies_on_both_sides_are_counted(
    form: str, held_out: float | int, tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As many as comparing the rows finds; at the second start, too, when nothing is read."""
    images = np.concatenate([tagged(20, 4, 4), tagged(10, 4, 4), tagged(3, 4, 4)])
    if form == "files":
        write_pictures(tmp_path / "images", images)
    else:
        np.save(tmp_path / "images.npy", images)
    data = ImageFolder(path="images" if form == "files" else "images.npy", held_out=held_out)
    real, other = (part["image"] for part in rows_of(data, tmp_path))
    there = {row.tobytes() for row in real}
    count = sum(row.tobytes() in there for row in other)
    assert 0 < count < len(other)
    for _ in range(2):
        caplog.clear()
        data.inspect(tmp_path)
        (message,) = caplog.messages
        assert f"{count} of {len(other)} {SAID}" in message


def test_no_copies_no_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pictures(tmp_path / "images", tagged(20, 4, 4))
    ImageFolder(path="images").inspect(tmp_path)
    assert not caplog.messages


def test_copies_on_one_side_only_are_not_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_celeba(tmp_path / "celeba", [0, 0, 0, 1, 2, 2])
    images = root / "img_align_celeba"
    shutil.copy(images / "000001.png", images / "000002.png")
    shutil.copy(images / "000005.png", images / "000006.png")
    shutil.copy(images / "000003.png", images / "000004.png")  # in a part that is not used
    CelebA().inspect(tmp_path)
    assert not caplog.messages
    CelebA(held_out="valid+test").inspect(tmp_path)
    assert f"celeba: 1 of 3 {SAID} (000004.png is 000003.png)" in caplog.text


def test_groups() -> None:
    assert groups_of([b"a", b"b", b"a", b"c", b"b", b"a"]) == [[0, 2, 5], [1, 4]]
    assert groups_of(row_digests(np.array([[1, 2], [2, 1], [1, 2]]))) == [[0, 2]]
