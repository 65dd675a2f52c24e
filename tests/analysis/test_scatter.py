"""The scatter over generations: what is drawn where, and which rows of a run it shows when."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from collapse_sim.analysis.scatter import columns, points_by_frames, points_by_generations
from collapse_sim.core.errors import StoreError
from collapse_sim.ui.palette import color

RNG = np.random.default_rng(0)
SQUARE = RNG.uniform(-1, 1, (500, 2))


def places(path: Path, i: int) -> np.ndarray:
    """Row and column of the pixels in the colour of the i-th arm, also where it is mixed with white."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")) / 255
    colour = np.array(to_rgb(color(i)))
    share = ((1 - pixels) @ (1 - colour)) / ((1 - colour) @ (1 - colour))
    like = (np.abs(1 - share[..., None] * (1 - colour) - pixels).max(-1) < 0.02) & (share > 0.4)
    return np.argwhere(like)


def test_first_and_last_generations_are_shown():
    assert columns(0) == [0]
    assert columns(7) == list(range(8))
    for last in (8, 9, 50, 1000):
        shown = columns(last)
        assert (len(shown), shown[0], shown[-1]) == (8, 0, last)
        gaps = np.diff(shown)
        assert gaps.max() - gaps.min() <= 1


def test_frames_are_columns_in_the_order_of_time(tmp_path: Path):
    """A spot that moves to the right and up within its cell does so from cell to cell."""
    path = tmp_path / "frames.png"
    frames = np.stack([np.full((50, 2), place) for place in (-0.8, 0.0, 0.8)])
    points_by_frames({"a": frames}, SQUARE, path, "note")
    found = places(path, 0)
    assert len(found) > 0
    columns_of_spots = np.split(found[np.argsort(found[:, 1])], np.flatnonzero(np.diff(np.sort(found[:, 1])) > 20) + 1)
    assert len(columns_of_spots) == 3
    heights = [spot[:, 0].mean() for spot in columns_of_spots]
    assert heights[0] > heights[1] > heights[2]


def test_arms_are_rows_and_generations_are_columns(tmp_path: Path):
    spot = np.full((50, 2), 0.5)
    drawn = {"a": {0: spot, 1: spot, 2: spot}, "b": {2: spot}}
    points_by_generations(drawn, SQUARE, tmp_path / "all.png", "")
    rows, where = zip(*(places(tmp_path / "all.png", i).T for i in range(2)), strict=True)
    assert rows[0].max() < rows[1].min()
    middles = sorted({round(float(x), -1) for x in where[0]})
    assert max(middles) - min(middles) > 200  # three cells
    assert where[1].min() > (where[0].min() + where[0].max()) / 2  # only the last of them
    assert abs(where[1].max() - where[0].max()) <= 1


def test_a_point_stands_where_its_coordinates_are(tmp_path: Path):
    corners = {"right": (0.9, 0.0), "left": (-0.9, 0.0), "up": (0.0, 0.9), "down": (0.0, -0.9), "middle": (0.0, 0.0)}
    ends, found = np.array([[-1.0, -1.0], [1.0, 1.0]]), {}
    for name, corner in corners.items():
        points_by_generations({"a": {0: np.array([corner] * 9)}}, ends, tmp_path / "one.png", "")
        found[name] = places(tmp_path / "one.png", 0).mean(0)
    down, right = found["down"] - found["middle"], found["right"] - found["middle"]
    assert down[0] > 40
    assert right[1] == pytest.approx(down[0], rel=0.05)  # one unit is as long in both directions
    for one, other in (("left", "right"), ("up", "down")):
        np.testing.assert_allclose(found[one] + found[other], 2 * found["middle"], atol=3)


def test_what_lies_outside_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    said = []
    text = Axes.text
    monkeypatch.setattr(Axes, "text", lambda self, x, y, s, **more: said.append(s) or text(self, x, y, s, **more))
    far = np.concatenate([SQUARE[:90], SQUARE[:10] + 10])
    lost = np.concatenate([SQUARE[:499], [[np.nan, 0.0]]])
    points_by_generations({"arm": {0: SQUARE, 1: far, 2: far + 20, 3: lost}}, SQUARE, tmp_path / "all.png", "")
    assert said == ["arm", "10 % outside", "100 % outside", "< 1 % outside"]


def test_one_dimension_is_a_histogram(tmp_path: Path):
    real = RNG.normal(size=(1000, 1))
    for name, rows in (("same", real), ("narrow", 0.1 * real)):
        points_by_generations({"a": {0: rows}}, real, tmp_path / f"{name}.png", "")
    same, narrow = places(tmp_path / "same.png", 0), places(tmp_path / "narrow.png", 0)
    assert np.ptp(same[:, 0]) < np.ptp(narrow[:, 0])  # higher
    base = narrow[:, 0].max()
    tall = [rows[rows[:, 0] < base - 10, 1] for rows in (same, narrow)]
    assert np.ptp(tall[1]) < np.ptp(tall[0]) / 2  # and narrower above the ground


def test_of_more_dimensions_two_are_drawn(tmp_path: Path):
    real = RNG.normal(size=(300, 5))
    points_by_generations({"a": {0: real}}, real, tmp_path / "five.png", "")
    points_by_generations({"a": {0: real[:, :2]}}, real[:, :2], tmp_path / "two.png", "")
    assert (tmp_path / "five.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_a_full_disk_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(StoreError, match="free some space"):
        points_by_generations({"a": {0: SQUARE}}, SQUARE, tmp_path / "x.png", "")


@pytest.mark.parametrize("arms", [1, 20])
def test_the_note_stands_below_the_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arms: int):
    figures: list[Figure] = []
    monkeypatch.setattr("collapse_sim.analysis.scatter.save", lambda figure, path, dpi: figures.append(figure))
    points_by_generations({f"arm {i}": {0: SQUARE} for i in range(arms)}, SQUARE, tmp_path / "picture.png", "a note")
    (figure,) = figures
    (note,) = figure.texts
    top = note.get_window_extent(figure.canvas.get_renderer()).y1
    assert note.get_text() == "a note"
    assert top < min(axes.get_tightbbox().y0 for axes in figure.axes)
