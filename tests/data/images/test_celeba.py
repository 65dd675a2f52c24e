"""celeba: the layouts in which it is published, plain folders, the official split, and what is cut out of an image."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from collapse_sim.core.errors import RecipeError
from collapse_sim.data.images.celeba import CelebA
from collapse_sim.data.images.image_folder import ImageFolder
from tests.data.making import HEIGHT, WIDTH, message_of, rows_of, write_celeba


def faces(columns: Any) -> list[int]:
    """Which faces the rows are, by their number."""
    assert columns["image"].shape[1:] == (3, 64, 64)
    return list((columns["image"][:, 0, 0, 0] // 10).tolist())


@pytest.mark.parametrize(
    ("held_out", "expected"), [("test", [4, 6, 11]), ("valid", [3, 9]), ("valid+test", [3, 4, 6, 9, 11])]
)
def test_official_split(held_out: str, expected: list[int], tmp_path: Path) -> None:
    write_celeba(tmp_path / "celeba")
    data = CelebA(held_out=held_out)
    info = data.inspect(tmp_path)
    real, other = rows_of(data, tmp_path)
    assert faces(real) == [1, 2, 5, 7, 8, 10, 12]
    assert faces(other) == expected
    assert (info.pool, info.held_out, info.classes) == (7, len(expected), 0)
    assert info.columns == {"image": ((3, 64, 64), "uint8")}


def test_the_split_is_torchvisions(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision.datasets")
    root = write_celeba(tmp_path / "celeba")
    for name in ("identity_CelebA", "list_attr_celeba", "list_bbox_celeba", "list_landmarks_align_celeba"):
        header = "" if name == "identity_CelebA" else "12\na\n"
        (root / f"{name}.txt").write_text(header + "".join(f"{n:06}.png 1\n" for n in range(1, 13)))

    class Unchecked(torchvision.CelebA):  # type: ignore[misc, name-defined]  # its checksums are those of the whole set
        def _check_integrity(self) -> bool:
            return True

    for split, columns in zip(("train", "test"), rows_of(CelebA(), tmp_path), strict=True):
        theirs = Unchecked(tmp_path, split=split, target_type=[])
        assert faces(columns) == [np.asarray(image)[0, 0, 0] // 10 for image, _ in theirs]


def test_the_centre_is_cut_out_and_brought_to_size(tmp_path: Path) -> None:
    """The same pixels as torchvision's transforms give, to a level of rounding."""
    root = write_celeba(tmp_path / "celeba")
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(picture).save(root / "img_align_celeba" / "000001.png")
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    for settings, side in (({}, 140), ({"crop": 148, "size": 32}, 148), ({"crop": None}, 178)):
        data = CelebA(**settings)
        image = rows_of(data, tmp_path)[0]["image"][0]
        cut = F.center_crop(tensor, [side, side])
        theirs = F.resize(cut, list(image.shape[1:]), InterpolationMode.BILINEAR, antialias=True).numpy()
        inner = slice(None) if data.crop else slice(1, -1)  # without `crop`, the border sees what is beyond the square
        assert np.abs(image.astype(int) - theirs)[:, inner, inner].max() <= 1
        assert data.inspect(tmp_path).shape("image") == image.shape
    whole = rows_of(CelebA(crop=140, size=None), tmp_path)[0]["image"][0]
    assert np.array_equal(whole, F.center_crop(tensor, [140, 140]).numpy())


def test_any_folder_of_images_with_a_share(tmp_path: Path) -> None:
    """The split of image_folder; no list is looked for."""
    root = write_celeba(tmp_path / "faces")
    (root / "list_eval_partition.txt").unlink()
    data = CelebA(path="faces/img_align_celeba", held_out=0.25)
    same = ImageFolder(path="faces/img_align_celeba", held_out=0.25, crop=140, size=64)
    info = data.inspect(tmp_path)
    assert (info.pool, info.held_out) == (9, 3)
    assert info == same.inspect(tmp_path)
    for ours, theirs in zip(rows_of(data, tmp_path), rows_of(same, tmp_path), strict=True):
        assert np.array_equal(ours["image"], theirs["image"])


def test_the_list_may_lie_in_or_beside_the_folder(tmp_path: Path) -> None:
    write_celeba(tmp_path / "celeba")
    infos = [CelebA(path=path).inspect(tmp_path) for path in ("celeba", "celeba/img_align_celeba")]
    assert infos[0] == infos[1]
    assert CelebA().describe() == CelebA(path="elsewhere").describe()


def test_another_list_is_other_data(tmp_path: Path) -> None:
    root = write_celeba(tmp_path / "celeba")
    before = CelebA().inspect(tmp_path).fingerprint
    text = (root / "list_eval_partition.txt").read_text()
    (root / "list_eval_partition.txt").write_text(text.replace("000001.png 0", "000001.png 1"))
    assert CelebA().inspect(tmp_path).fingerprint != before


def test_fewer_rows(tmp_path: Path) -> None:
    write_celeba(tmp_path / "celeba")
    data = CelebA(rows=5, held_out_rows=2)
    info = data.inspect(tmp_path)
    assert (info.rows, info.pool, info.held_out) == (5, 7, 2)
    assert len(set(faces(rows_of(data, tmp_path)[1])) & {4, 6, 11}) == 2


def test_missing(tmp_path: Path) -> None:
    """The advice is run as it stands, on a stand-in for torchvision that makes the layout."""
    text = message_of(CelebA(), tmp_path)
    root = tmp_path / "celeba"
    assert text.startswith(f"celeba: no data in {root}\n")
    assert f"{root}/img_align_celeba/*.jpg with {root}/list_eval_partition.txt" in text
    assert "--data-dir or COLLAPSE_SIM_DATA" in text
    program = text.splitlines()[-1].strip().removeprefix('python -c "').removesuffix('"')
    stand_in = tmp_path / "stand_in" / "torchvision"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").touch()
    (stand_in / "datasets.py").write_text(
        "from pathlib import Path\n"
        "from tests.data.making import write_celeba\n"
        "def CelebA(root, download):\n"
        "    write_celeba(Path(root) / 'celeba')\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{stand_in.parent}:{Path(__file__).parents[3]}"}
    subprocess.run([sys.executable, "-c", program], check=True, env=env)
    assert CelebA().inspect(tmp_path).pool == 7


def test_images_without_the_list(tmp_path: Path) -> None:
    root = write_celeba(tmp_path / "celeba")
    (root / "list_eval_partition.txt").unlink()
    text = message_of(CelebA(), tmp_path)
    assert f"looked for: {root}/list_eval_partition.txt, {root}/img_align_celeba/list_eval_partition.txt" in text
    assert "set `data.held_out` to a share (such as 0.1) or a number of the images" in text
    assert "download=True" in text
    assert CelebA(held_out=2).inspect(tmp_path).held_out == 2


def test_an_archive_that_was_not_wholly_unpacked(tmp_path: Path) -> None:
    root = write_celeba(tmp_path / "celeba")
    for number in (3, 5):
        (root / "img_align_celeba" / f"{number:06}.png").unlink()
    text = message_of(CelebA(), tmp_path)
    assert f"{root}/img_align_celeba lacks 2 of the 12 images in list_eval_partition.txt, such as 000003.png" in text
    assert "unpack them again" in text


def test_images_that_the_list_does_not_know(tmp_path: Path) -> None:
    root = write_celeba(tmp_path / "celeba")
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "img_align_celeba" / "mine.png")
    assert "list_eval_partition.txt lacks 1 of the 13 images" in message_of(CelebA(), tmp_path)


@pytest.mark.parametrize("line", ["000004.png", "000004.png 3", "000004.png,0", "<html>", "000004.png 0 1"])
def test_a_list_of_another_kind(line: str, tmp_path: Path) -> None:
    path = write_celeba(tmp_path / "celeba") / "list_eval_partition.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], line, *lines[4:]]))
    assert f"{path}: line 4 is {line!r}; needed: a file and its part" in message_of(CelebA(), tmp_path)


def test_a_part_that_is_empty(tmp_path: Path) -> None:
    write_celeba(tmp_path / "celeba", [0, 0, 1])
    text = message_of(CelebA(), tmp_path)
    assert "has 2 images of the part `train` and 0 of `test`" in text
    assert "set `data.held_out`" in text


def test_other_images_in_the_folder(tmp_path: Path) -> None:
    root = write_celeba(tmp_path / "celeba")
    images = root / "img_align_celeba"
    Image.new("L", (WIDTH, HEIGHT)).save(images / "000002.png")
    assert CelebA().inspect(tmp_path).shape("image") == (3, 64, 64)  # `channels` converts it
    assert "11 RGB (such as 000001.png)" in message_of(CelebA(channels=None), tmp_path)
    Image.new("RGB", (100, 150)).save(images / "000002.png")
    text = message_of(CelebA(), tmp_path)
    assert "smaller than the crop, 140x140: 1 of 150x100 (such as 000002.png)" in text
    assert "set `data.crop` to 100 or less, or to null" in text
    assert CelebA(crop=100).inspect(tmp_path).pool == 7


def test_more_rows_than_there_are(tmp_path: Path) -> None:
    write_celeba(tmp_path / "celeba")
    text = message_of(CelebA(rows=8, held_out_rows=4), tmp_path, RecipeError)
    assert "data.rows: 8 asked for, but there are 7" in text
    assert "data.held_out_rows: 4 asked for, but there are 3" in text


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        ("train", "'train' is not a part of CelebA: allowed: valid, test, valid\\+test"),
        (1.5, "1.5 is not a share between 0 and 1"),
        (0, "0 rows are too few"),
        (None, "None is not a number"),
    ],
)
def test_held_out_that_makes_no_sense(held_out: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CelebA(held_out=held_out)


def _kaggle(root: Path) -> None:
    images = root / "img_align_celeba"
    (root / "x").mkdir()
    images.rename(root / "x" / "img_align_celeba")
    (root / "x").rename(images)
    path = root / "list_eval_partition.txt"
    lines = ["image_id,partition", *path.read_text().replace(" ", ",").splitlines()]
    path.with_suffix(".csv").write_text("\r\n".join(lines))
    path.unlink()


def _mark(root: Path) -> None:
    path = root / "list_eval_partition.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def _other_endings(root: Path) -> None:
    path = root / "list_eval_partition.txt"
    path.write_text(path.read_text().replace(".png", ".jpg"))


@pytest.mark.parametrize("change", [_kaggle, _mark, _other_endings])
def test_celeba(change: Callable[[Path], None], tmp_path: Path) -> None:
    write_celeba(tmp_path / "plain")
    change(write_celeba(tmp_path / "other"))
    plain, other = CelebA(path="plain"), CelebA(path="other")
    assert other.inspect(tmp_path) == plain.inspect(tmp_path)
    for ours, theirs in zip(rows_of(other, tmp_path), rows_of(plain, tmp_path), strict=True):
        assert np.array_equal(ours["image"], theirs["image"])
    deeper = "other/img_align_celeba/img_align_celeba" if change is _kaggle else "other/img_align_celeba"
    assert CelebA(path=deeper).inspect(tmp_path) == plain.inspect(tmp_path)


def test_some_files_with_another_ending_are_no_other_copy(tmp_path: Path) -> None:
    root = write_celeba(tmp_path / "celeba")
    path = root / "img_align_celeba" / "000003.png"
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()
    assert "lacks 1 of the 12 images in list_eval_partition.txt, such as 000003.png" in message_of(CelebA(), tmp_path)


def test_a_csv_of_another_kind(tmp_path: Path) -> None:
    root = write_celeba(tmp_path / "celeba")
    (root / "list_eval_partition.txt").unlink()
    (root / "list_eval_partition.csv").write_text("image_id,partition\n000001.png 0\n")
    assert "line 2 is '000001.png 0'; needed: a file and its part" in message_of(CelebA(), tmp_path)
