"""digits: every picture of scikit-learn's in one part, with its label, and a split that never changes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from collapse_sim.data.images import digits
from collapse_sim.data.images.digits import Digits
from tests.data.making import check_columns, row_bytes, rows_of


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """As in a process that has not read them yet."""
    digits._split_digits.cache_clear()
    yield
    digits._split_digits.cache_clear()


def test_a_second_start_reads_the_same_digits_without_scikit_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a damaged file of the cache is written anew."""
    first = rows_of(Digits(), tmp_path)
    for damage in (False, True):
        digits._split_digits.cache_clear()
        with monkeypatch.context() as patch:
            if damage:
                kept = digits._cache_file()
                kept.write_bytes(kept.read_bytes().replace(b"A", b"B", 1))
            else:
                patch.setitem(sys.modules, "sklearn.datasets", None)  # importing it is an error
            again = rows_of(Digits(), tmp_path)
        for old, new in zip(first, again, strict=True):
            assert all(np.array_equal(old[name], new[name]) for name in old)


def test_digits_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("COLLAPSE_SIM_CACHE", str(tmp_path / "file"))
    assert Digits().inspect(tmp_path).pool == 1437


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
