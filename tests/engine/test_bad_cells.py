"""One bad cell never ends the others: what diverged is nan from there on, and what failed is made the next time."""

from __future__ import annotations

import math
from collections import Counter
from typing import ClassVar

import pytest
import torch
from filelock import Timeout
from torch import nn

from collapse_sim.core.component import Component
from collapse_sim.core.errors import OutOfMemoryError, PluginError
from collapse_sim.engine import fit
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.store.locks import Lock
from tests.conftest import TINY, artefacts
from tests.metrics.networks import save_script

IMAGES = """
name: images
data: {use: digits, rows: 64, held_out_rows: 32, validation_rows: 16}
model: {use: vae, hidden: 16, latent: 2}
train: {steps: 1, batch_size: 32, evaluate: every epoch, keep: best, learning_rate: 1e30}
generations: 2
seeds: [0]
arms: {replace: {data: replace}, accumulate: {data: accumulate}}
metrics: [test_loss, {use: fid, features: pixels}, {use: coverage, features: pixels}]
"""
TEXTS = """
name: texts
data: {use: grammar, rows: 60, held_out_rows: 20}
model: {use: causal_lm, preset: tiny, width: 16, layers: 1}
train: {steps: 1, batch_size: 16, evaluate: never, learning_rate: 1e30}
generations: 1
seeds: [0]
arms: {replace: {data: replace}}
"""
POINTS = """
name: points
data: {use: eight_gaussians, rows: 64, held_out_rows: 64}
model: {use: flow_matching, network: {widths: [16, 16]}, scale: 2.0, sampling_steps: 4}
train: {steps: 1, batch_size: 32, evaluate: never, learning_rate: 1e30}
generations: 1
seeds: [0]
arms: {replace: {data: replace}}
metrics: [sample_w2]
"""


def scores(sandbox, run="run"):
    """{(arm, generation, seed, metric): value}, later lines first."""
    found = {}
    for line in sandbox.journal(run, "scores"):
        for metric, values in line["metrics"].items():
            for seed, value in zip(line["seeds"], values, strict=True):
                found[line["arm"], line["generation"], seed, metric] = value
    return found


@pytest.mark.parametrize("recipe", [IMAGES, TEXTS, POINTS], ids=["images", "texts", "points"])
def test_an_update_that_ruins_the_weights_is_seen_though_no_step_follows(sandbox, recipe):
    """The loss before the only update is finite. Nothing of such a model is stored, and all that is of it is nan."""
    result = sandbox.run(recipe)
    arms = [line["arm"] for line in sandbox.journal(event="diverged")]
    assert {found["generation"] for found in result["diverged"]} == {0}
    assert "at step 1; there is no earlier checkpoint" in result["diverged"][0]["message"]
    assert sorted(arms) == sorted(dict.fromkeys(arms))  # once an arm, though every generation is told of
    assert all(math.isnan(value) for value in scores(sandbox).values())
    assert {k for _, k, _, _ in scores(sandbox)} == set(range(3 if recipe is IMAGES else 2))
    kinds = [path.parent.name for path in sandbox.root.glob(".store/objects/*/*/*/model.safetensors")]
    assert "s0" not in kinds


def test_a_chain_that_diverges_leaves_all_others_as_they_would_be_alone(sandbox, monkeypatch):
    original, ruined = fit.backward, []

    def spoiled(training_loss, model, inputs, machine, scaler, teacher=None, *rest):
        loss = original(training_loss, model, inputs, machine, scaler, teacher, *rest)
        ruined.extend([1] if teacher is not None else [])
        return loss * math.nan if len(ruined) == 3 else loss

    with monkeypatch.context() as patch:
        patch.setattr(fit, "backward", spoiled)
        result = sandbox.run(TINY)
    (found,) = result["diverged"]
    assert (found["arms"], found["generation"], found["seeds"]) == (["accumulate+distill"], 1, [0])
    (line,) = sandbox.journal(event="diverged")
    assert (line["arm"], line["generation"], line["seed"]) == ("accumulate+distill", 1, 0)
    nan = {place for place, value in scores(sandbox).items() if math.isnan(value)}
    assert nan == {("accumulate+distill", k, 0, "test_loss") for k in (1, 2)}
    here = sandbox.artefacts()
    sandbox.root = sandbox.root / "alone"
    sandbox.root.mkdir()
    sandbox.run(TINY)
    whole = artefacts(sandbox.root / ".store")
    assert here.items() <= whole.items()
    assert len(whole) - len(here) == 6  # fit, samples and score of two generations


BATCH = """
name: toy
data: {use: gaussian, rows: 20}
model: gaussian
generations: 2
seeds: 4
arms: {replace: {data: replace}, accumulate: {data: accumulate}}
metrics: [variance_ratio]
"""


@pytest.fixture
def spoiled_seed(sandbox, monkeypatch):
    """Seed 2 of BATCH diverges in the first arm's generation 1; the value: the scores of a run where it does not."""
    original, found = Gaussian.solve, []

    def look(self, info, rows, *rest):
        found.append(rows["x"].mean((1, 2))[2])
        return original(self, info, rows, *rest)

    def spoiled(self, info, rows, *rest):
        model = original(self, info, rows, *rest)
        model.covariance[rows["x"].mean((1, 2)) == found[1]] = math.nan
        return model

    with monkeypatch.context() as patch:
        patch.setattr(Gaussian, "solve", look)
        sandbox.run(BATCH, "alone")
    alone = scores(sandbox, "alone")
    sandbox.root = sandbox.root / "spoiled"
    sandbox.root.mkdir()
    monkeypatch.setattr(Gaussian, "solve", spoiled)
    return alone


def test_of_a_batch_of_seeds_only_those_that_diverge_are_left_out(sandbox, spoiled_seed):
    (told,) = sandbox.run(BATCH)["diverged"]
    assert (told["arms"], told["generation"], told["seeds"]) == (["replace"], 1, [2])
    ours = scores(sandbox)
    assert {place for place, value in ours.items() if math.isnan(value)} == {
        ("replace", k, 2, "variance_ratio") for k in (1, 2)
    }
    assert all(value == spoiled_seed[place] for place, value in ours.items() if not math.isnan(value))


def test_the_rest_of_a_batch_waits_for_another_process_and_what_failed_is_not_tried_again(
    sandbox, monkeypatch, spoiled_seed
):
    """Another process takes the lock between the batch that failed and the one of the seeds that are left."""
    acquire, asked = Lock.acquire, []

    def lost_once(self, timeout=-1):
        asked.append(self.path)
        if timeout == 0 and asked.count(self.path) == 2:
            raise Timeout(str(self.path))
        acquire(self, timeout)

    monkeypatch.setattr(Lock, "acquire", lost_once)
    (told,) = sandbox.run(BATCH)["diverged"]
    assert told["seeds"] == [2]
    ((_, times),) = [(path, n) for path, n in Counter(asked).items() if n > 1 and path.parent.name == "locks"]
    assert times == 3  # the batch; the seeds that are left, in vain; and those again
    ours = scores(sandbox)
    assert all(value == spoiled_seed[place] for place, value in ours.items() if not math.isnan(value))


class Broken(Component):
    """A metric that raises at generation 1 of an arm."""

    kinds: ClassVar[None] = None
    needs: ClassVar[tuple[str, ...]] = ("model",)
    better: ClassVar[None] = None

    def check(self, info, family, samples):
        pass

    def score(self, evaluation):
        if evaluation.generation == 1:
            raise KeyError("no such thing")
        return 1.0


def test_a_metric_that_raises_ends_no_other_cell(sandbox, monkeypatch):
    recipe = TINY.replace("metrics: [test_loss]", f"metrics: [test_loss, {{use: '{__name__}:Broken', as: own}}]")
    with pytest.raises(PluginError, match=r"generation 1, seed 0: .*:Broken raised KeyError: 'no such thing'"):
        sandbox.run(recipe)
    known = scores(sandbox)
    assert {k for _, k, _, metric in known if metric == "test_loss"} == {0, 1, 2}
    assert {k for _, k, _, metric in known if metric == "own"} == {0, 2}
    monkeypatch.setattr(Broken, "score", lambda self, evaluation: 2.0)
    result = sandbox.run(recipe)
    assert result["made"] == 4  # two arms, two seeds
    assert scores(sandbox)["replace", 1, 1, "own"] == 2.0


def test_memory_that_one_fit_cannot_have_is_not_the_end_of_the_others(sandbox, monkeypatch):
    original = fit.backward

    def starved(family, model, inputs, machine, scaler, teacher=None, *rest):
        if teacher is not None:
            torch.empty(2**50)
        return original(family, model, inputs, machine, scaler, teacher, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "backward", starved)
        with pytest.raises(
            OutOfMemoryError, match=r"accumulate\+distill, generation 1: out of memory while making fit"
        ):
            sandbox.run(TINY)
    assert {arm for arm, k, _, _ in scores(sandbox) if k == 2} == {"replace"}
    assert sandbox.run(TINY)["made"] == 2 * 2 * 3


class Root(nn.Module):
    """Features of dark images are roots of negative numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(x, 2).flatten(1).sqrt()


@pytest.mark.slow
def test_features_that_are_not_finite_give_nan_in_every_metric(sandbox):
    save_script(Root().eval(), sandbox.root / "root.pt")
    names = ["fid", "kid", "precision", "recall", "density", "coverage", "vendi"]
    metrics = ", ".join(f"{{use: {name}, features: {{torchscript: {sandbox.root}/root.pt}}}}" for name in names)
    recipe = TINY.replace("metrics: [test_loss]", f"metrics: [{metrics}]").replace("seeds: [0, 1]", "seeds: [0]")
    sandbox.run(recipe.replace("generations: 2", "generations: 1"))
    values = scores(sandbox)
    assert {metric for *_, metric in values} == set(names)
    assert all(math.isnan(value) for value in values.values())


class Odd(Broken):
    """A metric whose score is no number, and that prints."""

    gives: ClassVar[object] = None

    def score(self, evaluation):
        print("said by a plug-in")
        return self.gives


@pytest.mark.parametrize("value", [None, "1", [1.0, 2.0], 10**400, 1j, True, torch.zeros(3)], ids=repr)
def test_a_score_that_is_no_number_names_the_metric(sandbox, monkeypatch, capsys, value):
    monkeypatch.setattr(Odd, "gives", value)
    recipe = TINY.replace("metrics: [test_loss]", f"metrics: [{{use: '{__name__}:Odd', as: own}}]")
    with pytest.raises(PluginError, match=r"tests.engine.test_bad_cells:Odd: `score` gave "):
        sandbox.run(recipe)
    assert "said by a plug-in" not in capsys.readouterr().out
