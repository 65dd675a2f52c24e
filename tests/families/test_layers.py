"""Linear maps of layers' outputs to other sizes, and predictions of other shapes."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from collapse_sim.families.layers import LayerMaps, Resizing, aligned, resizing


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ((2, 8), (2, 8), None),
        ((2, 8), (2, 12), Resizing(1, 8, 12)),
        ((2, 8, 4, 4), (2, 12, 4, 4), Resizing(1, 8, 12)),  # channels
        ((2, 5, 16), (2, 5, 8), Resizing(2, 16, 8)),  # features of tokens
    ],
)
def test_the_axis_in_which_outputs_differ_is_mapped(student, teacher, expected):
    assert resizing(student, teacher) == expected


@pytest.mark.parametrize(("student", "teacher"), [((2, 8, 4, 4), (2, 12, 8, 8)), ((2, 8), (2, 8, 1)), ((2, 8), (3, 8))])
def test_one_linear_map_is_not_enough(student, teacher):
    with pytest.raises(ValueError, match="a linear map changes one axis only"):
        resizing(student, teacher)


def test_maps_are_linear_layers_and_convolutions_of_one_pixel():
    torch.manual_seed(0)
    maps = LayerMaps({"encoder.0": Resizing(1, 3, 5), "blocks.1": Resizing(1, 4, 2)})
    row, image, other = torch.randn(6, 3), torch.randn(6, 4, 7, 7), torch.randn(6, 9)
    mapped = maps({"encoder.0": (row,), "blocks.1": (image, image + 1), "same": (other,)})
    of_images, of_rows = maps.maps["0"], maps.maps["1"]
    torch.testing.assert_close(mapped["encoder.0"][0], row @ of_rows.weight.T + of_rows.bias)
    for result, given in zip(mapped["blocks.1"], (image, image + 1), strict=True):
        torch.testing.assert_close(result, F.conv2d(given, of_images.weight[:, :, None, None], of_images.bias))
    assert mapped["same"][0] is other


class Predicted(NamedTuple):
    logits: Tensor
    hidden: Tensor


def test_tensors_of_other_shapes_are_replaced():
    student, teacher = Predicted(torch.ones(2, 3), torch.ones(2, 4)), Predicted(torch.zeros(2, 3), torch.zeros(2, 9))
    result = aligned(student, teacher)
    assert result.logits is teacher.logits
    assert result.hidden.equal(student.hidden)
    assert float(aligned(student, teacher, torch.zeros_like).hidden.sum()) == 0
