"""`collapse_sim.api` is enough: plug-ins of every kind, and a program that runs a recipe and reads the results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import collapse_sim.api

PLUGIN = '''
from typing import ClassVar

import torch
from torch import nn

from collapse_sim.api import Component, Info, Inputs, Plan, RowCounts, Source


class Square(Component):
    """Points drawn uniformly from a square."""

    rows: int = 50
    """Real rows."""

    kind: ClassVar[str] = "points"
    seeded: ClassVar[bool] = True

    def inspect(self, folder):
        return Info("points", {"x": ((2,), "float64")}, rows=self.rows, pool=self.rows, held_out=20)

    def simulate(self, rows, draws):
        return {"x": draws.uniform(rows, 2)}


class Mean(Component):
    """A normal distribution around a fitted mean."""

    kinds: ClassVar[tuple[str, ...]] = ("points",)
    columns: ClassVar[tuple[str, ...]] = ("x",)
    terms: ClassVar[tuple[str, ...]] = ("output",)

    def check(self, info): ...

    def build(self, info):
        return nn.Linear(1, 2, bias=False)

    def corrupt(self, rows, draws):
        return Inputs(dict(rows), len(rows["x"]))

    def predict(self, model, inputs):
        return model.weight[:, 0].expand(len(inputs["x"]), 2)

    def loss(self, prediction, inputs):
        return (prediction - inputs["x"].float()).square().sum()

    def distillation(self, student, teacher, inputs):
        return {"output": (student - teacher).square().sum()}

    def sample(self, model, conditions, draws):
        return {"x": (model.weight[:, 0] + 0.1 * draws.normal(conditions.rows, 2)).double()}


class Half(Component):
    """Half of the previous generation's samples."""

    def plan(self, k: int, counts: RowCounts) -> Plan:
        return Plan((Source(k - 1, counts.samples // 2),))


class Spread(Component):
    """The standard deviation of the samples."""

    kinds: ClassVar[tuple[str, ...] | None] = ("points",)
    needs: ClassVar[tuple[str, ...]] = ("samples",)
    better: ClassVar[str | None] = None

    def check(self, info, family, samples): ...

    def score(self, evaluation):
        return float(evaluation.rows("samples")["x"].std())
'''
RECIPE = """
data: {use: "mine:Square"}
model: {use: "mine:Mean"}
train: {steps: 10, batch_size: 25, learning_rate: 0.05, evaluate: never}
generations: 1
seeds: [0, 1]
arms: {half: {data: "mine:Half"}}
metrics: [{use: "mine:Spread", as: spread}, test_loss]
"""
PROGRAM = """
from pathlib import Path

import torch

from collapse_sim.api import Session, load_recipe, load_run, open_device, prepare
from collapse_sim.testing import check_family
from mine import Mean, Square

check_family(Mean(), Square().inspect(Path()), {"x": torch.rand(40, 2, dtype=torch.float64)})
here, device = Path(), open_device("cpu")
experiment = prepare(load_recipe(here / "recipe.yaml"), here, device)
result = Session(experiment, device, here / "run", here / "store", here).run(quiet=True)
run = load_run(here / "run")
print(result["made"] > 0, sorted(run.metrics), run.arms)
"""


def test_every_name_is_there() -> None:
    assert all(hasattr(collapse_sim.api, name) for name in collapse_sim.api.__all__)
    assert len(set(collapse_sim.api.__all__)) == len(collapse_sim.api.__all__)


def test_it_is_enough_for_plug_ins_and_programs(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True ['spread', 'test_loss'] ('half',)\n"
