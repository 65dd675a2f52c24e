"""`collapse_sim.testing` finds what is wrong with a plug-in."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from collapse_sim.families.base import Inputs
from collapse_sim.families.denoiser import mean_square
from collapse_sim.families.flow_matching import FlowMatching
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.families.network import Network
from collapse_sim.testing import check_closed_form, check_family
from collapse_sim.testing.family_hooks import check_hooks
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


WRONG_BLOCKS = {
    "blocks must be modules of the model": lambda self, model: [torch.nn.Linear(1, 1)],
    "blocks must not share parameters, nor be within another": lambda self, model: list(model.children()) * 2,
    "blocks must not share parameters with the rest": lambda self, model: [Alias(model)],
    "predict must call every block": lambda self, model: [uncalled(model)],
}


def uncalled(model):
    """A part of the network that is never called, though the network has it."""
    if not hasattr(model, "spare"):
        model.spare = torch.nn.Linear(1, 1)
    return model.spare


class Alias(torch.nn.Module):
    """A part of the network with a parameter of another part."""

    def __init__(self, model):
        super().__init__()
        self.weight = next(model.parameters())
        model.alias = self


@pytest.mark.parametrize("problem", WRONG_BLOCKS)
def test_wrong_blocks_are_found(problem):
    family = type("Wrong", (FlowMatching,), {"blocks": WRONG_BLOCKS[problem]})(network=Network(widths=(8, 8)))
    rows = {"x": torch.randn(8, 3, dtype=torch.float64)}
    with pytest.raises(AssertionError, match=problem):
        check_hooks(family, family.build(POINTS), POINTS, rows)


class Reordering(FlowMatching):
    """Its batches are reversed, and it says nothing of it."""

    network: Network = Network(widths=(8, 8))

    def corrupt(self, rows, draws):
        inputs = super().corrupt(rows, draws)
        return Inputs({name: tensor.flip(0) for name, tensor in inputs.tensors.items()}, inputs.count)


class Declared(Reordering):
    def corrupt(self, rows, draws):
        inputs = super().corrupt(rows, draws)
        return dataclasses.replace(inputs, order=torch.arange(len(inputs["t"])).flip(0))


def test_a_batch_in_another_order_is_detected():
    rows = {"x": torch.randn(32, 3, dtype=torch.float64)}
    with pytest.raises(AssertionError, match=r"corrupt reorders its rows: give the order in Inputs\.order"):
        check_family(Reordering(), POINTS, rows)
    check_family(Declared(), POINTS, rows)


def test_wrong_weights_of_rows_of_a_closed_form_are_detected():
    class Unweighted(Gaussian):
        def solve_weighted(self, info, rows, row_weights, teacher, weights, draws):
            return self.solve(info, rows, teacher, weights, draws)

    with pytest.raises(AssertionError, match=r"lowers the objective with \{\} and weights of rows"):
        check_closed_form(Unweighted(), POINTS, {"x": torch.randn(2, 50, 3, dtype=torch.float64)})
