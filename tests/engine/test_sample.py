"""Sampling: what a family generates is what was asked for, and a stop is heard within a shard."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from collapse_sim.core.errors import InterruptedRunError, PluginError
from collapse_sim.core.machine import Machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.engine.sample import sample
from collapse_sim.engine.work import JobContext, Stop
from collapse_sim.families.base import Conditions
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.families.vae import VAE
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.store.jobs import Job
from collapse_sim.store.store import Store
from tests.conftest import TINY


class Fewer(Gaussian):
    """A family that generates one row, whatever is asked for."""

    def sample(self, model, conditions, draws):
        return {name: column[:, :1] for name, column in super().sample(model, conditions, draws).items()}


class Renamed(Gaussian):
    def sample(self, model, conditions, draws):
        return {"y": super().sample(model, conditions, draws)["x"]}


@pytest.mark.parametrize(
    ("family", "said"),
    [("Fewer", r"`sample` gave x of shape \(2, 1, 3\) and dtype float64; needed: \(2, 20, 3\)"), ("Renamed", "no x")],
)
def test_samples_that_are_not_what_was_asked_for_are_refused(sandbox, family, said):
    recipe = f"""
    name: toy
    data: {{use: gaussian, dimensions: 3, rows: 20}}
    model: {{use: "{__name__}:{family}"}}
    generations: 1
    seeds: 2
    arms: {{replace: {{data: replace}}}}
    metrics: [variance_ratio]
    """
    with pytest.raises(PluginError, match=said):
        sandbox.run(recipe)


def test_a_wish_to_stop_is_heard_within_a_shard(sandbox):
    calls: list[int] = []
    stop = Stop()

    class Iterative(VAE):
        def build(self, info: Info) -> nn.Module:
            model = super().build(info)
            model.forward = lambda x: x  # type: ignore[method-assign]
            return model

        def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, torch.Tensor]:
            for call in range(10):
                calls.append(call)
                if call == 1:
                    stop.signal_number = 2
                model(draws.normal(1, 16))
            raise AssertionError("the wish was not heard")

    sandbox.run(TINY)
    spec = prepare(load(sandbox.recipe(TINY)), sandbox.root).arm_plans[0].generations[0].samples
    object.__setattr__(spec.model, "family", Iterative(hidden=16, latent=2))
    store = Store(sandbox.root / ".store", stop.check)
    work = JobContext(store, Machine(torch.device("cpu"), "fp32"), lambda event: None, sandbox.root, stop)
    with pytest.raises(InterruptedRunError):
        sample(Job(spec, (0,), ("replace",)), sandbox.root, work)
    assert calls == [0, 1]
