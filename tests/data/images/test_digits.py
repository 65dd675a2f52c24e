"""digits: every picture of scikit-learn's in one part, with its label, and a split that never changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from collapse_sim.data.images.digits import Digits
from tests.data.making import check_columns, row_bytes, rows_of


def test_digits_are_split_without_overlap(tmp_path: Path) -> None:
    """All 1,797 digits are different pictures, so that bytes tell rows apart; each is in exactly one part."""
    from sklearn.datasets import load_digits

    info = Digits().inspect(tmp_path)
    train, held_out = rows_of(Digits(), tmp_path)
    assert (info.rows, info.pool, info.held_out) == (1437, 1437, 360)
    assert not row_bytes(train["image"]) & row_bytes(held_out["image"])
    every = np.array([[round(v * 255 / 16) for v in row] for row in load_digits().data], np.uint8).reshape(-1, 1, 8, 8)
    assert len(row_bytes(every)) == 1797
    assert row_bytes(train["image"]) | row_bytes(held_out["image"]) == row_bytes(every)
    check_columns(info, train, 1437)
    check_columns(info, held_out, 360)


def test_digits_are_stratified_and_never_change(tmp_path: Path) -> None:
    train, held_out = rows_of(Digits(), tmp_path)
    share = np.bincount(held_out["label"]) / np.bincount(np.concatenate([train["label"], held_out["label"]]))
    assert np.abs(share - 360 / 1797).max() < 0.005
    assert (train["image"].min(), train["image"].max()) == (0, 255)
    # The split is part of what a published result means: if scikit-learn ever splits in another way, this must fail.
    assert Digits().inspect(tmp_path).fingerprint[:16] == "3b5934528b158db6"


def test_digits_labels_belong_to_their_images(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    source = load_digits()
    label = {
        np.rint(row * 255 / 16).astype(np.uint8).tobytes(): target
        for row, target in zip(source.data, source.target, strict=True)
    }
    for part in rows_of(Digits(), tmp_path):
        assert [label[image.tobytes()] for image in part["image"]] == part["label"].tolist()
