"""A line fitted by gradient descent: a family of few words that tells the loss of every row, and is quick to fit."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.families.base import Inputs

RECIPE = """
name: one
data: {use: linear, rows: 60, dimensions: 3, held_out_rows: 150}
model: {use: 'tests.analysis.lines:Line'}
train: {steps: 100, batch_size: 20, learning_rate: 0.05}
samples: 60
generations: 1
seeds: [4]
arms:
  accumulate: {data: accumulate}
  replace: {data: replace}
metrics: [test_loss]
claims:
  - {that: "the first models are better", metric: test_loss, generation: last, expect: replace@0 < 0.5 * replace}
"""


class Line(Component):
    """y = w x + b."""

    kinds: ClassVar[tuple[str, ...]] = ("regression",)
    columns: ClassVar[tuple[str, ...]] = ("x", "y")
    conditions: ClassVar[tuple[str, ...]] = ("x",)
    terms: ClassVar[tuple[str, ...]] = ()

    def check(self, info: Any) -> None: ...

    def build(self, info: Any) -> nn.Module:
        return nn.Linear(info.shape("x")[0], 1)

    def corrupt(self, rows: Any, draws: Any) -> Inputs:
        return Inputs({"x": rows["x"].float(), "y": rows["y"].float()}, len(rows["y"]))

    def predict(self, model: Any, inputs: Inputs) -> Tensor:
        predicted: Tensor = model(inputs["x"]).squeeze(-1)
        return predicted

    def loss(self, prediction: Tensor, inputs: Inputs) -> Tensor:
        return self.row_losses(prediction, inputs).sum()

    def row_losses(self, prediction: Tensor, inputs: Inputs) -> Tensor:
        return (prediction - inputs["y"]).square()

    def distillation(self, student: Any, teacher: Any, inputs: Inputs) -> dict[str, Tensor]:
        return {}

    def sample(self, model: Any, conditions: Any, draws: Any) -> dict[str, Tensor]:
        x = conditions.columns["x"]
        y = model(x.float()).squeeze(-1) + draws.normal(len(x))
        return {"x": x, "y": y.to(torch.float64)}
