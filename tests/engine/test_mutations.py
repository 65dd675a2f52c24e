"""Mistakes that leave a run looking right: each test fails on the one that it is named after."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.sources import REAL, Plan, Source
from collapse_sim.engine import artefacts, choice
from collapse_sim.engine.optimizers import make_optimizer
from collapse_sim.families.base import Conditions, Inputs
from collapse_sim.families.training import Train
from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.specs import fit_spec, sample_spec
from collapse_sim.recipe.loader import load
from collapse_sim.store.store import Store

SEEN: list[tuple[str, bool, tuple[float, ...]]] = []  # (what for, in training mode, the dropout mask)


class Recorder(nn.Module):
    """One weight for each coordinate, and dropout whose masks are recorded."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.randn(dimensions))
        self.dropout = nn.Dropout(0.5)

    def forward(self, what: str) -> Tensor:
        mask = self.dropout(torch.ones(16))
        SEEN.append((what, self.training, tuple(mask.tolist())))
        return self.centre


class Prediction(NamedTuple):
    centre: Tensor


class RecordingFamily(Component):
    """Points around a fitted centre; every use of the network is recorded."""

    kinds: ClassVar[tuple[str, ...]] = ("points",)
    columns: ClassVar[tuple[str, ...]] = ("x",)
    terms: ClassVar[tuple[str, ...]] = ("output",)

    def check(self, info: Info) -> None: ...

    def build(self, info: Info) -> nn.Module:
        return Recorder(*info.shape("x"))

    def corrupt(self, rows: dict[str, Tensor], draws: Draws) -> Inputs:
        return Inputs(dict(rows), len(rows["x"]))

    def predict(self, model: nn.Module, inputs: Inputs) -> Prediction:
        return Prediction(model("predict"))

    def loss(self, prediction: Prediction, inputs: Inputs) -> Tensor:
        return (inputs["x"].float() - prediction.centre).square().sum()

    def distillation(self, student: Prediction, teacher: Prediction, inputs: Inputs) -> dict[str, Tensor]:
        return {"output": inputs.count * (student.centre - teacher.centre).square().sum()}

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        centre = model("sample")
        return {"x": (centre + draws.normal(conditions.rows, len(centre))).double()}


RECIPE = f"""
data: {{use: two_moons, rows: 60, held_out_rows: 20}}
model: {{use: "{__name__}:RecordingFamily"}}
train: {{steps: 4, batch_size: 30, optimizer: sgd, momentum: 0.0, learning_rate: 0.1, evaluate: every 2 steps}}
generations: 2
seeds: [3]
arms:
  taught: {{data: replace, init: previous, teacher: {{generation: 0, weights: {{output: 0.5}}}}}}
metrics: [test_loss]
"""


@pytest.fixture
def ran(sandbox):
    """RECIPE with changes, run -> (the experiment, its store); what the networks did is in SEEN."""

    def run(*changes: tuple[str, str]):
        text = RECIPE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        SEEN.clear()
        sandbox.run(text)
        return prepare(load(sandbox.recipe(text)), sandbox.root / "data"), Store(sandbox.root / ".store")

    return run


@pytest.mark.parametrize(("name", "reference"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_adam_is_not_built_as_adamw(name, reference):
    """With weight decay they differ: Adam adds it to the gradient, AdamW takes it off the weights."""
    settings = Train(steps=5, optimizer=name, learning_rate=0.1, weight_decay=0.5, decay="all")

    def weights(build):
        torch.manual_seed(0)
        layer = nn.Linear(4, 3)
        optimizer = build(layer)
        for step in range(5):
            optimizer.zero_grad()
            layer(torch.linspace(-1, 1, 8).reshape(2, 4) * (step + 1)).square().sum().backward()
            optimizer.step()
        return layer.weight.detach()

    ours = weights(lambda layer: make_optimizer(settings, layer))
    torch.testing.assert_close(
        ours, weights(lambda layer: reference(layer.parameters(), 0.1, weight_decay=0.5)), rtol=1e-5, atol=1e-6
    )


def test_init_previous_is_not_generation_zero(ran):
    """With a learning rate of next to nothing a fit stays where it begins."""
    experiment, store = ran()
    moving = [artefacts.model(store, plan.fit, (3,), _cpu()).centre for plan in experiment.arm_plans[0].generations]
    assert not torch.equal(moving[1], moving[0])
    still = fit_spec_like(
        experiment.arm_plans[0].generations[2].fit, Train(steps=1, optimizer="sgd", learning_rate=1e-30)
    )
    assert still.init is experiment.arm_plans[0].generations[1].fit
    begun = fitted(still, store)
    torch.testing.assert_close(begun, moving[1], rtol=0, atol=0)
    assert not torch.equal(begun, moving[0])


def test_subsamples_of_two_generations_are_not_the_same(ran):
    experiment, _ = ran()
    plan = Plan((Source(REAL, 60),), budget=20)
    first = experiment.arm_plans[0].generations[0].fit
    picks = [choice.subsample(fit_spec(k, first.family, first.train, plan, first.data, {}), 3) for k in (1, 2, 3)]
    assert all(pick is not None and len(set(pick.tolist())) == 20 for pick in picks)
    assert len({tuple(np.sort(pick).tolist()) for pick in picks if pick is not None}) == 3


def test_dropout_noise_is_not_constant_over_steps_or_generations(ran):
    ran()
    masks = [mask for what, training, mask in SEEN if what == "predict" and training]
    assert len(masks) == 3 * 4  # a step is one micro-batch: four steps of three generations
    assert len(set(masks)) == len(masks)


def test_a_model_in_use_is_in_eval_mode(ran):
    """Samplers, teachers, held-out losses and metrics: only a student's forward pass in training drops units."""
    ran()
    sampled = [training for what, training, _ in SEEN if what == "sample"]
    assert sampled == [False] * 3
    predictions = [training for what, training, _ in SEEN if what == "predict"]
    assert sum(predictions) == 3 * 4
    assert predictions.count(False) >= 2 * 4 + 3 * 2 + 3  # teachers of two generations, evaluations, test losses
    assert all(set(mask) == {1.0} for _, training, mask in SEEN if not training)


def test_the_sampling_seed_is_not_constant_over_generations(ran):
    """Samples minus the model's centre are the noise alone."""
    experiment, store = ran()
    noise = []
    for plan in experiment.arm_plans[0].generations:
        _, columns = artefacts.columns(store, plan.samples, 3, "samples")
        noise.append(columns["x"] - artefacts.model(store, plan.fit, (3,), _cpu()).centre.numpy())
    for i, j in ((0, 1), (1, 2), (0, 2)):
        assert np.abs(noise[i] - noise[j]).max() > 0.5


def _cpu():
    from collapse_sim.core.machine import open_device

    return open_device("cpu")


def fit_spec_like(fit, train):
    """The same fit with other training settings."""
    return fit_spec(fit.generation, fit.family, train, fit.plan, fit.data, fit.past, fit.teacher, fit.weights, fit.init)


def fitted(spec, store):
    """The centre of a spec's model, made now."""
    from collapse_sim.engine.build import builder
    from collapse_sim.engine.work import JobContext
    from collapse_sim.store.jobs import Request

    context = JobContext(store, _cpu(), lambda event: None, store.root)
    store.make_all([Request(spec, (3,), ("taught",))], builder(context), lambda event: None)
    assert sample_spec(spec, 1, 1).model is spec
    return artefacts.model(store, spec, (3,), _cpu()).centre
