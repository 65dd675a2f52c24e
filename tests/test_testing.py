"""`collapse_sim.testing` finds what is wrong with a plug-in."""

from __future__ import annotations

import pytest
import torch

from collapse_sim.families.denoiser import mean_square
from collapse_sim.families.flow_matching import FlowMatching
from collapse_sim.families.network import Network
from collapse_sim.testing import check_family
from tests.families.small_rows import POINTS

WRONG_ROWS = {
    "must add up to the loss": lambda self, prediction, inputs: mean_square(prediction.output, inputs["target"]) / 2,
    "returns \\(2,\\) for 32 rows": lambda self, prediction, inputs: inputs["t"].new_zeros(2),
    "depends on others": lambda self, prediction, inputs: (
        mean_square(prediction.output, inputs["target"]).mean().expand(len(inputs["t"]))
    ),
}


def squares(self, prediction, inputs):
    return mean_square(prediction.output, inputs["target"]).sum()


@pytest.mark.parametrize("problem", WRONG_ROWS)
def test_wrong_losses_of_rows_are_found(problem):
    wrong = {"row_losses": WRONG_ROWS[problem], "loss": squares}
    family = type("Wrong", (FlowMatching,), wrong)(network=Network(widths=(8, 8)))
    with pytest.raises(AssertionError, match=problem):
        check_family(family, POINTS, {"x": torch.randn(32, 3, dtype=torch.float64)})
