"""Rows as vectors, and their distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from collapse_sim.families.conformer import Conformer
from collapse_sim.remedies.detector import Detector
from collapse_sim.remedies.diversity import Diversity
from collapse_sim.remedies.row_vectors import check_vectors, require_finite, squared_distances, text_column, vectors
from collapse_sim.remedies.transport import Transport
from tests.families.graphs import MOLECULES
from tests.families.small_rows import IMAGES, POINTS, REGRESSION
from tests.families.wording import PAIRS, TEXT


def test_points_images_and_regressions():
    x = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
    assert vectors({"x": x}, POINTS).tolist() == [[0, 1, 2], [3, 4, 5]]
    both = {"x": x, "y": torch.tensor([7.0, 8.0])}
    assert vectors(both, REGRESSION).tolist() == [[0, 1, 2, 7], [3, 4, 5, 8]]
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    image[0, 0, 0, 1] = 51
    assert vectors({"image": image}, IMAGES)[0, :3].tolist() == [0, 0.2, 0]


def test_texts_are_shares_of_tokens_without_begin_end_and_padding():
    tokens = torch.tensor([[0, 3, 3, 5, 9, 0, -1, -1], [0, 0, -1, -1, -1, -1, -1, -1]])
    shares = vectors({"tokens": tokens}, TEXT)
    assert shares.shape == (2, TEXT.text().size)
    assert shares[0].nonzero()[0].tolist() == [3, 5, 9]
    assert shares[0, [3, 5, 9]].tolist() == [0.5, 0.25, 0.25]
    assert not shares[1].any()
    assert text_column(PAIRS) == "target"


def test_equal_rows_have_no_distance():
    x = np.random.default_rng(0).normal(size=(5, 300)) * 1e3
    distances = squared_distances(x, x[:4])
    assert distances.shape == (5, 4)
    assert (distances.diagonal() == 0).all()
    assert distances[4, 1] == pytest.approx(((x[4] - x[1]) ** 2).sum())


def test_rows_that_are_not_finite_are_counted():
    with pytest.raises(ValueError, match="1 of 2 candidates are not finite"):
        require_finite(np.array([[0.0, np.nan], [1.0, 2.0]]), "candidates")


def test_conformations_are_no_vectors():
    """They may be turned: curations by distance refuse them before anything is made."""
    for curation in (Diversity(), Transport(), Detector()):
        with pytest.raises(ValueError, match="distances, which rows of the kind molecules do not have"):
            curation.check(None, MOLECULES, Conformer())
        for info in (POINTS, IMAGES, REGRESSION):
            curation.check(None, info, Conformer())
    check_vectors(TEXT)
