"""Pictures of conformations: how molecules are turned, and what is drawn where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from collapse_sim.analysis.molecule_pictures import (
    Drawn,
    conformations_by_generations,
    flattest,
    nearest_turn,
)
from collapse_sim.ui.palette import COLORS

RNG = np.random.default_rng(0)
OXYGEN, NITROGEN = COLORS[3], COLORS[0]


def turn() -> np.ndarray:
    return np.linalg.qr(RNG.normal(size=(3, 3)))[0]


def test_the_thinnest_direction_is_not_seen() -> None:
    """Whatever the orientation; atoms that are not there do not count."""
    x = RNG.normal(size=(8, 3)) * [1.0, 5.0, 0.2]
    atoms = np.array([6] * 7 + [0])
    seen = flattest(x @ turn(), atoms)[:7]
    assert seen.var(0).tolist() == sorted(seen.var(0), reverse=True)
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.svd(seen)[1], np.linalg.svd(x[:7] - x[:7].mean(0))[1])


@pytest.mark.parametrize("mirror", [1, -1])
def test_a_sample_is_turned_or_mirrored_onto_the_real_one(mirror: int) -> None:
    x = RNG.normal(size=(5, 3))
    x -= x.mean(0)
    np.testing.assert_allclose(nearest_turn(mirror * x @ turn() + 7, x, np.full(5, 6)), x, atol=1e-9)


def places(path: Path, colour: str) -> np.ndarray:
    """Row and column of the pixels of a colour."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")) / 255
    return np.argwhere(np.abs(pixels - to_rgb(colour)).max(-1) < 0.05)


def two(element: int, length: float = 1.2, count: int = 1) -> Drawn:
    """Molecules of two equal atoms."""
    positions = np.zeros((count, 2, 3))
    positions[:, 1, 0] = length
    return Drawn(positions, np.full((count, 2), element), np.tile(np.eye(2)[::-1].astype(int), (count, 1, 1)))


def groups(numbers: np.ndarray, apart: float = 60) -> int:
    """How many groups of numbers are at least so many pixels apart."""
    return 1 + int((np.diff(np.sort(numbers)) > apart).sum())


def test_arms_are_rows_and_generations_are_columns_beside_the_real_one(tmp_path: Path) -> None:
    samples = {"a": {0: two(8), 1: two(8), 2: two(8)}, "b": {2: two(7)}}
    conformations_by_generations(samples, {"a": two(8), "b": two(7)}, tmp_path / "all.png", "note")
    oxygen, nitrogen = places(tmp_path / "all.png", OXYGEN), places(tmp_path / "all.png", NITROGEN)
    assert oxygen[:, 0].max() < nitrogen[:, 0].min()
    assert groups(oxygen[:, 1]) == 4  # the real one, and three generations
    assert groups(nitrogen[:, 1]) == 2
    assert abs(int(nitrogen[:, 1].max()) - int(oxygen[:, 1].max())) <= 2


def test_four_molecules_are_two_by_two(tmp_path: Path) -> None:
    drawn = two(8, count=6)
    conformations_by_generations({"a": {0: drawn}}, {"a": drawn}, tmp_path / "all.png", "")
    oxygen = places(tmp_path / "all.png", OXYGEN)
    assert groups(oxygen[:, 0], 40) == 2


def test_what_is_outside_of_its_square_is_cut_off(tmp_path: Path) -> None:
    """Atoms far from each other: neither is drawn into another molecule's square."""
    real = two(8, count=4)
    far = Drawn(np.concatenate([two(7, 500.0).positions, two(8, count=3).positions]),
                np.concatenate([two(7).atoms, two(8, count=3).atoms]), real.bonds)  # fmt: skip
    conformations_by_generations({"a": {0: far}}, {"a": real}, tmp_path / "far.png", "")
    assert len(places(tmp_path / "far.png", NITROGEN)) == 0
    assert len(places(tmp_path / "far.png", OXYGEN)) > 0


def test_the_note_is_not_cut_off(tmp_path: Path) -> None:
    """Wherever its lines end, they end before the picture does."""
    for count in (5, 30, 90):
        conformations_by_generations({"a": {0: two(8)}}, {"a": two(8)}, tmp_path / "note.png", "word " * count)
        with Image.open(tmp_path / "note.png") as picture:
            pixels = np.asarray(picture.convert("L"))
        assert (pixels[:, -5:] == 255).all()
        assert (pixels[-5:] == 255).all()
