"""Images from elsewhere: the same pixels, nothing converted, and labels that are numbers of classes."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
from PIL import Image

from collapse_sim.core.errors import MissingError
from collapse_sim.data.base import Info
from collapse_sim.data.images.import_images import image_rows
from tests.data.making import tagged, write_pictures

GREY = Info("images", {"image": ((1, 8, 8), "uint8")}, 10, 10, 5)
COLOUR = Info("images", {"image": ((3, 8, 8), "uint8")}, 10, 10, 5)
LABELLED = Info("images", {"image": ((1, 8, 8), "uint8"), "label": ((), "int64")}, 10, 10, 5, classes=4)


def read(path, info, needed=("image",)):
    rows = image_rows(path, info, needed)
    columns = rows.open().read(0, rows.rows)
    assert tuple(sorted(columns)) == rows.columns
    return columns


def refusal(path, info, needed=("image",)) -> str:
    with pytest.raises(MissingError) as caught:
        image_rows(path, info, needed)
    return str(caught.value)


def test_a_folder_and_an_array(tmp_path):
    images = tagged(5, 8, 8)
    write_pictures(tmp_path / "grey", images)
    np.save(tmp_path / "grey.npy", images)
    for path in (tmp_path / "grey", tmp_path / "grey.npy"):
        np.testing.assert_array_equal(read(path, GREY)["image"], images[:, None])
    coloured = tagged(5, 8, 8, 3)
    write_pictures(tmp_path / "colour", coloured)
    np.save(tmp_path / "colour.npy", coloured)
    for path in (tmp_path / "colour", tmp_path / "colour.npy"):
        np.testing.assert_array_equal(read(path, COLOUR)["image"], coloured.transpose(0, 3, 1, 2))


def test_labels_are_the_numbers_that_name_subfolders(tmp_path):
    """A class that died has no folder, and moves no other class."""
    images = tagged(4, 8, 8)
    for label, part in (("1", images[:3]), ("3", images[3:])):
        write_pictures(tmp_path / "s" / label, part)
    columns = read(tmp_path / "s", LABELLED, ("image", "label"))
    assert columns["label"].tolist() == [1, 1, 1, 3]
    np.testing.assert_array_equal(columns["image"], images[:, None])
    assert set(read(tmp_path / "s", GREY)) == {"image"}


def test_a_dataset_on_disk(tmp_path):
    images = tagged(4, 8, 8)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=4)})
    rows = {"image": [Image.fromarray(image) for image in images], "label": [3, 0, 0, 1]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "dataset")
    columns = read(tmp_path / "dataset", LABELLED, ("image", "label"))
    np.testing.assert_array_equal(columns["image"], images[:, None])
    assert columns["label"].tolist() == [3, 0, 0, 1]


def test_what_does_not_fit_is_named(tmp_path):
    write_pictures(tmp_path / "s", tagged(3, 8, 8))
    write_pictures(tmp_path / "s" / "more", tagged(2, 4, 8))
    text = refusal(tmp_path / "s", GREY)
    assert "2 images of 4x8 pixels (such as more/0000.png); needed: 8x8, as the data has" in text
    text = refusal(tmp_path / "s", COLOUR)
    assert "2 images of 4x8 pixels" in text
    assert "5 images in colour mode L (such as 0000.png); needed: RGB, as the data has" in text
    np.save(tmp_path / "s.npy", tagged(3, 8, 4))
    assert "images of 8x4 pixels and 1 channel; needed: 8x8 pixels and 3 channels" in refusal(
        tmp_path / "s.npy", COLOUR
    )
    np.save(tmp_path / "f.npy", np.zeros((3, 8, 8)))
    assert "needed: uint8" in refusal(tmp_path / "f.npy", GREY)


def test_a_size_that_is_known_already_is_compared_as_well(tmp_path, monkeypatch):
    """What the cache has of a folder comes back from JSON."""
    from collapse_sim.data import file_cache

    monkeypatch.setattr(file_cache, "SETTLED_NS", -1)
    write_pictures(tmp_path / "s", tagged(3, 8, 8))
    for _ in range(2):
        assert image_rows(tmp_path / "s", GREY, ("image",)).rows == 3
        assert "needed: RGB" in refusal(tmp_path / "s", COLOUR)


def test_labels_that_do_not_fit(tmp_path):
    for label in ("0", "4"):
        write_pictures(tmp_path / "far" / label, tagged(2, 8, 8))
    assert "label 4; allowed: 0 to 3" in refusal(tmp_path / "far", LABELLED)
    for label in ("cat", "dog"):
        write_pictures(tmp_path / "words" / label, tagged(2, 8, 8))
    assert set(read(tmp_path / "words", LABELLED)) == {"image"}
    assert "no labels; needed: a subfolder for each class" in refusal(tmp_path / "words", LABELLED, ("image", "label"))
    np.save(tmp_path / "a.npy", tagged(2, 8, 8))
    assert "no labels" in refusal(tmp_path / "a.npy", LABELLED, ("image", "label"))


def test_files_that_cannot_be_read(tmp_path):
    (path, *_) = write_pictures(tmp_path / "s", tagged(3, 8, 8))
    path.write_bytes(path.read_bytes()[:40])
    assert "rows_from: 1 unreadable images in" in refusal(tmp_path / "s", GREY)
    (tmp_path / "a.txt").write_text("text")
    assert "images are read from a folder of files ending in .png" in refusal(tmp_path / "a.txt", GREY)
    (tmp_path / "empty").mkdir()
    assert "no images in" in refusal(tmp_path / "empty", GREY)


def test_images_that_change_after_the_check_are_refused(tmp_path):
    write_pictures(tmp_path / "s", tagged(3, 8, 8))
    np.save(tmp_path / "s.npy", tagged(3, 8, 8))
    folder, array = (image_rows(tmp_path / name, GREY, ("image",)) for name in ("s", "s.npy"))
    write_pictures(tmp_path / "s", tagged(3, 8, 8, first=7))
    np.save(tmp_path / "s.npy", tagged(3, 8, 8, first=7))
    for rows in (folder, array):
        with pytest.raises(MissingError, match="changed since it was checked: run the command again"):
            rows.open()
