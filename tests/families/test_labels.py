"""The labels of conditional models: what data must have, and what networks read."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from collapse_sim.families.labels import NO_LABEL, check_labels, embedding_rows, one_hot
from tests.families.small_rows import COLOUR, IMAGES

LABELS = torch.tensor([3, 0, 2, 3])


def test_data_without_labels_is_refused() -> None:
    check_labels(IMAGES)
    for info in (COLOUR, dataclasses.replace(IMAGES, classes=0), dataclasses.replace(COLOUR, classes=10)):
        with pytest.raises(ValueError, match="needs rows with labels, and this data has none; remove it, or use"):
            check_labels(info)


@pytest.mark.parametrize(("column", "problem"), [(((), "float64"), "float64"), (((2,), "int64"), r"\(2,\)")])
def test_a_label_is_one_whole_number(column, problem) -> None:
    info = dataclasses.replace(IMAGES, columns={**IMAGES.columns, "label": column})
    with pytest.raises(ValueError, match=f"one whole number per row as its label, .*{problem}"):
        check_labels(info)


def test_the_last_embedding_is_that_of_rows_without_a_label() -> None:
    label = torch.tensor([0, NO_LABEL, 4, NO_LABEL])
    assert embedding_rows(label, 5).tolist() == [0, 5, 4, 5]
    assert embedding_rows(label, 5).dtype == torch.int64


def test_one_hot_is_torchs_own() -> None:
    assert torch.equal(one_hot(LABELS, 4), functional.one_hot(LABELS, 4).float())


@pytest.mark.parametrize("function", [embedding_rows, one_hot])
def test_a_network_that_needs_labels_does_not_go_without(function) -> None:
    with pytest.raises(ValueError, match="a conditional network needs labels"):
        function(None, 3)
