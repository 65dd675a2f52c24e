from __future__ import annotations

import numpy as np
import pytest

from collapse_sim.core.errors import RecipeError, StoreError
from collapse_sim.run.loaded_samples import Samples, place, stored_columns
from tests.conftest import SMALL


def test_labels_are_beside_the_rows() -> None:
    images, labels = np.zeros((3, 1, 2, 2), np.uint8), np.arange(3)
    samples = Samples("a", 1, 0, {"label": labels, "image": images})
    assert samples.rows is images
    assert samples.labels is labels
    assert samples.texts is None
    assert len(samples) == 3


def test_several_columns_are_named() -> None:
    samples = Samples("a", 1, 0, {"x": np.zeros((3, 2)), "y": np.zeros(3)})
    with pytest.raises(RecipeError, match=r"^these rows have the columns x, y: take them from \.columns$"):
        samples.rows  # noqa: B018


def test_texts_take_the_place_of_token_ids() -> None:
    samples = Samples("a", 1, 0, {"tokens": np.zeros((2, 4))}, lambda columns: ["one", "two"])
    assert samples.rows == ["one", "two"]


def test_the_columns_of_a_network_s_samples_are_read_by_seed(sandbox) -> None:
    sandbox.run(SMALL)
    columns = stored_columns(sandbox.root / "run", None, "replace", 1, 0)
    assert columns["image"].shape == (150, 1, 8, 8)
    assert not columns["image"].flags.writeable
    with pytest.raises(StoreError, match=f"{place('replace', 1, 4)}: no samples: this is not scored yet"):
        stored_columns(sandbox.root / "run", None, "replace", 1, 4)
    with pytest.raises(
        StoreError, match=r"its samples are not in .*elsewhere: they were removed; running the recipe again"
    ):
        stored_columns(sandbox.root / "run", sandbox.root / "elsewhere", "replace", 1, 0)
