"""Pictures, pixel by pixel."""

import errno
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from collapse_sim.analysis.image_grids import arms_by_frames, arms_by_generations, classes_by_generations, sample_grid
from collapse_sim.core.errors import StoreError

RNG = np.random.default_rng(0)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def count(sheet: np.ndarray, image: np.ndarray, factor: int) -> int:
    """How often an enlarged image (C, H, W) stands in the sheet, pixel for pixel."""
    patch = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0).repeat(factor, 0).repeat(factor, 1)
    windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], patch.shape[:2])[..., 0, 0]
    corners = np.argwhere(windows == patch[0, 0, 0])
    height, width = patch.shape[:2]
    return sum(np.array_equal(sheet[y : y + height, x : x + width], patch) for y, x in corners)


def test_grid_keeps_every_pixel(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    sample_grid(images, tmp_path / "grid.png", columns=3)
    found = read(tmp_path / "grid.png")
    assert found.shape == (2 * 40 + 2, 3 * 40 + 2 * 2, 3)  # 8 pixels enlarged five times, gaps of 2
    for i in range(5):
        top, left = i // 3 * 42, i % 3 * 42
        cell = found[top : top + 40, left : left + 40]
        assert np.array_equal(cell[2::5, 2::5, 0], images[i, 0])
        assert np.array_equal(cell, images[i, 0].repeat(5, 0).repeat(5, 1)[..., None].repeat(3, 2))
    assert (found[42:, 84:] == 200).all()  # the place of a sixth image


def test_colours_stay(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (1, 3, 64, 48), dtype=np.uint8)
    sample_grid(images, tmp_path / "grid.png", columns=4)
    assert np.array_equal(read(tmp_path / "grid.png"), images[0].transpose(1, 2, 0))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 1, 8, 8), np.float32),
        np.zeros((2, 2, 8, 8), np.uint8),
        np.zeros((8, 8), np.uint8),
        np.zeros((0, 1, 8, 8), np.uint8),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8 images of shape"):
        sample_grid(images, tmp_path / "grid.png", columns=2)


def test_sheet_of_arms_by_generations(tmp_path: Path) -> None:
    images = RNG.integers(0, 250, (2, 3, 4, 1, 8, 8), dtype=np.uint8)
    arms = {"replace": {k: images[0, k] for k in range(3)}, "distill": {k: images[1, k] for k in range(2)}}
    real = RNG.integers(0, 250, (11, 1, 8, 8), dtype=np.uint8)
    arms_by_generations(arms, real, tmp_path / "sheet.png")
    found = read(tmp_path / "sheet.png")
    for i in range(2):
        for k in range(3):
            for image in images[i, k]:
                assert count(found, image, 5) == (1 if (i, k) != (1, 2) else 0)
    assert [count(found, image, 5) for image in real] == [1] * 8 + [0] * 3  # two whole cells of four
    assert not list(tmp_path.glob(".*"))


def corners_of(levels: Iterable[int], sheet: np.ndarray) -> dict[int, np.ndarray]:
    """Row and column of the 40x40 image of every grey level."""
    blocks = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], (40, 40))
    least, greatest = blocks.min((2, 3)), blocks.max((2, 3))
    return {level: np.argwhere((least == level) & (greatest == level))[0] for level in levels}


def test_rows_and_columns_stand_where_they_should(tmp_path: Path) -> None:
    levels = {
        arm: {k: np.full((1, 1, 40, 40), level + k, np.uint8) for k in range(2)}
        for arm, level in (("a", 10), ("b", 20))
    }
    arms_by_generations(levels, np.full((2, 1, 40, 40), 99, np.uint8), tmp_path / "sheet.png")
    corners = corners_of((99, 10, 11, 20, 21), read(tmp_path / "sheet.png"))
    assert corners[99][0] < corners[10][0] < corners[20][0]
    assert corners[10][0] == corners[11][0]
    assert corners[10][1] == corners[20][1] < corners[11][1] == corners[21][1]


def test_few_real_images_fill_a_part(tmp_path: Path) -> None:
    real = RNG.integers(0, 250, (3, 1, 8, 8), dtype=np.uint8)
    samples = RNG.integers(0, 250, (9, 1, 8, 8), dtype=np.uint8)
    arms_by_generations({"a": {0: samples, 1: samples}}, real, tmp_path / "sheet.png")
    assert [count(read(tmp_path / "sheet.png"), image, 5) for image in real] == [1, 1, 1]


def test_frames_stand_in_the_order_of_time(tmp_path: Path) -> None:
    frames = {
        arm: np.stack([np.full((1, 40, 40), level + i, np.uint8) for i in range(4)])
        for arm, level in (("a", 10), ("b", 20))
    }
    arms_by_frames(frames, tmp_path / "sheet.png")
    found = read(tmp_path / "sheet.png")
    corners = corners_of((*range(10, 14), *range(20, 24)), found)
    assert len({corners[level][0] for level in range(10, 14)}) == 1
    assert corners[10][0] < corners[20][0]
    columns = [corners[level][1] for level in range(10, 14)]
    assert columns == sorted(columns) == [corners[level][1] for level in range(20, 24)]
    assert (found[: corners[10][0]] == 0).any()  # the headings stand above


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no samples"):
        arms_by_generations({"a": {}}, np.zeros((1, 1, 8, 8), np.uint8), tmp_path / "sheet.png")


def test_a_full_disk_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(StoreError, match="free some space"):
        sample_grid(np.zeros((1, 1, 8, 8), np.uint8), tmp_path / "x.png", columns=1)


def test_processes_that_draw_the_same_picture_do_not_disturb_each_other(tmp_path, monkeypatch):
    """Two processes share a run directory: the name written to first is each process's own."""
    from PIL import Image

    from collapse_sim.analysis.image_grids import sample_grid

    seen = []
    save = Image.Image.save

    def noting(self, path, *args, **kwargs):
        seen.append(path)
        save(self, path, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", noting)
    images = np.zeros((4, 1, 8, 8), np.uint8)
    sample_grid(images, tmp_path / "a.png", columns=2)
    sample_grid(images, tmp_path / "a.png", columns=2)
    assert len(set(seen)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_names_of_any_kind_are_labels(tmp_path: Path) -> None:
    """Line breaks, which Pillow cannot align, long names and signs without a font among them."""
    images = {k: np.zeros((1, 1, 8, 8), np.uint8) for k in range(2)}
    arms = {"$x_$": images, "a\nb": images, "x" * 300: images, "日本語": images, "real data": images}
    arms_by_generations(arms, np.zeros((2, 1, 8, 8), np.uint8), tmp_path / "sheet.png")
    assert read(tmp_path / "sheet.png").shape[1] < 700


def test_names_longer_than_a_file_may_have_do_not_lengthen_the_scratch_file(tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 240}.png"
    sample_grid(np.zeros((4, 1, 8, 8), np.uint8), path, columns=2)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_sheet_of_classes_by_generations(tmp_path: Path) -> None:
    """A row for each class: real images, then each generation's; what is lacking stays empty."""
    images = RNG.integers(0, 250, (2, 3, 4, 1, 8, 8), dtype=np.uint8)
    real = RNG.integers(0, 250, (2, 4, 1, 8, 8), dtype=np.uint8)
    classes = {"class 0": {k: images[0, k] for k in range(3)}, "class 1": {0: images[1, 0, :1], 2: images[1, 2]}}
    classes_by_generations(classes, {"class 0": real[0], "class 1": real[1]}, tmp_path / "sheet.png")
    found = read(tmp_path / "sheet.png")
    for i in range(2):
        assert [count(found, image, 5) for image in real[i]] == [1] * 4
        for k in range(3):
            shown = {(1, 0): 1, (1, 1): 0}.get((i, k), 4)
            assert [count(found, image, 5) for image in images[i, k]] == [1] * shown + [0] * (4 - shown)
    levels = {f"class {c}": {k: np.full((1, 1, 40, 40), 10 * c + k, np.uint8) for k in range(2)} for c in range(1, 3)}
    classes_by_generations(levels, {"class 1": np.full((1, 1, 40, 40), 99, np.uint8)}, tmp_path / "levels.png")
    places = corners_of((10, 11, 20, 21, 99), read(tmp_path / "levels.png"))
    assert places[10][0] == places[11][0] == places[99][0] < places[20][0] == places[21][0]
    assert places[99][1] < places[10][1] == places[20][1] < places[11][1] == places[21][1]
    with pytest.raises(ValueError, match="no samples to draw"):
        classes_by_generations({"class 0": {}}, {}, tmp_path / "none.png")
