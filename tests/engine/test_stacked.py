"""Fits computed as one program: as alone up to rounding, resumable to equal bytes; one that diverges ends alone."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.engine import fit, stacked
from collapse_sim.engine.stacked import StackedStep, clip_each
from collapse_sim.families.vae import VAE
from collapse_sim.store import store as store_module
from tests.conftest import TINY, changed

GROUPED = changed(TINY, ("generations: 2", "generations: 1"))


def fits(sandbox):
    """{digest and seeds: (state, manifest)} of the stored fits."""
    stored = {}
    for path in (sandbox.root / ".store" / "objects").glob("*/*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        if manifest["kind"] == "fit":
            stored[manifest["digest"], tuple(manifest["seeds"])] = (
                load_file(path.parent / "model.safetensors"),
                manifest,
            )
    return stored


def beside(sandbox, name):
    """Another sandbox, with a store of its own."""
    other = type(sandbox)(sandbox.root / name)
    other.root.mkdir()
    return other


def stopping(monkeypatch, owner, name, at=7):
    """Ctrl-C before a call of a function, the seventh by default; returns a list that grows by one with every call."""
    function, calls = getattr(owner, name), []

    def interrupting(*args, **kwargs):
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGINT)
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, interrupting)
    return calls


def both(sandbox, recipe):
    """The fits of a recipe, one by one and in groups."""
    other = beside(sandbox, "other")
    sandbox.run(recipe)
    other.run(recipe, ensemble="16")
    alone, together = fits(sandbox), fits(other)
    assert alone.keys() == together.keys()
    return alone, together


SETTINGS = {
    "as it is": "",
    "clipped": "clip_norm: 0.01, ",
    "averaged": "ema: 0.9, ",
    "sgd": "optimizer: sgd, learning_rate: 0.1, ",
    "decay": "weight_decay: 0.1, ",
    "schedule": "schedule: cosine, warmup_steps: 3, ",
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_a_member_is_its_fit_alone_up_to_rounding(sandbox, setting):
    """Also where seeds, rows and teachers differ, and where a batch at the end of an epoch is smaller."""
    recipe = GROUPED.replace("train: {steps: 20, batch_size: 32,", f"train: {{{setting}steps: 9, batch_size: 32,")
    alone, together = both(sandbox, recipe)
    sizes = [len(manifest.get("group", [])) for _, manifest in together.values()]
    assert sorted(sizes) == [2, 2, 2, 2, 2, 2]  # generation 0, replace and accumulate + distill, two seeds each
    for key, (state, manifest) in alone.items():
        assert "group" not in manifest
        for name, tensor in state.items():
            torch.testing.assert_close(together[key][0][name], tensor, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(("ensemble", "sequences"), [("off", 6), ("16", 3)])
def test_optimisers_are_kept_free_of_subnormal_numbers(sandbox, monkeypatch, ensemble, sequences):
    steps = []
    for module in (fit, stacked):
        monkeypatch.setattr(module, "clear_subnormals", lambda optimizer, step: steps.append(step))
    sandbox.run(GROUPED, ensemble=ensemble)
    assert steps == [*range(20)] * sequences


def test_arms_with_the_same_rows_share_a_group_and_other_networks_have_their_own(sandbox):
    recipe = GROUPED.replace(
        "metrics:",
        """  weaker: {data: accumulate, teacher: {generation: 0, weights: {output: 0.25}}}
  wide: {data: accumulate, model: {hidden: 24}}
metrics:""",
    )
    alone, together = both(sandbox, recipe)
    sizes = sorted(len(manifest["group"]) for _, manifest in together.values())
    assert sizes == [2] * 8 + [4] * 4  # two networks' generation 0, replace, wide; two distilled arms of two seeds each
    for key, (state, _) in alone.items():
        for name, tensor in state.items():
            torch.testing.assert_close(together[key][0][name], tensor, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("settings", ["patience: 2, ", "accumulate: 2, "])
def test_fits_that_cannot_share_their_steps_are_computed_alone(sandbox, settings):
    sandbox.run(GROUPED.replace("{steps: 20,", f"{{{settings}steps: 20,"), ensemble="16")
    assert all("group" not in manifest for _, manifest in fits(sandbox).values())


def test_a_group_that_was_interrupted_is_the_same_group_and_gives_the_same_bytes(sandbox, monkeypatch):
    sandbox.run(GROUPED, ensemble="16")
    reference = sandbox.artefacts()
    other = beside(sandbox, "other")
    steps = stopping(monkeypatch, StackedStep, "take")
    with pytest.raises(InterruptedRunError):
        other.run(GROUPED, ensemble="16")
    saved = sorted(path.name for path in (other.root / ".store" / "partial").rglob("step-*.safetensors"))
    assert saved == ["step-000000007.safetensors"] * 2  # each member's own
    other.run(GROUPED, ensemble="16")
    assert other.artefacts() == reference
    assert len(steps) == 3 * 20


@pytest.mark.parametrize("commits", [1, 3, 5])
def test_a_kill_between_the_commits_of_a_group_changes_no_bytes(sandbox, monkeypatch, commits):
    sandbox.run(GROUPED, ensemble="16")
    reference = sandbox.artefacts()
    other = beside(sandbox, "other")
    count = []

    class Killed(BaseException):
        pass

    def boundary(name):
        if name == "cleaned":
            count.append(1)
            if len(count) == 1 + commits:  # the data is the first
                raise Killed

    monkeypatch.setattr(store_module, "boundary", boundary)
    with pytest.raises(Killed):
        other.run(GROUPED, ensemble="16")
    monkeypatch.setattr(store_module, "boundary", lambda name: None)
    other.run(GROUPED, ensemble="16")
    assert other.artefacts() == reference


def test_a_member_that_diverges_leaves_the_others(sandbox):
    """Its chain ends; the others have the bytes that they have in a group of that size."""
    recipe = GROUPED.replace(
        "metrics:",
        "  wild: {data: accumulate, teacher: {generation: 0, weights: {output: 1.0e+38}}}\nmetrics:",
    )
    result = sandbox.run(recipe, ensemble="16")
    assert [(chain["arms"], chain["generation"], chain["seeds"]) for chain in result["diverged"]] == [
        (["wild"], 1, [0]),
        (["wild"], 1, [1]),
    ]
    good = fits(sandbox)
    assert len(good) == 6
    assert all(tensor.isfinite().all() for state, _ in good.values() for tensor in state.values())
    again = sandbox.run(recipe, ensemble="16")
    assert again["diverged"] == result["diverged"] or "as before" in again["diverged"][0]["message"]
    assert again["made"] == 0
    calm = beside(sandbox, "calm")
    calm.run(GROUPED, ensemble="16")
    for key, (state, _) in fits(calm).items():
        for name, tensor in state.items():
            torch.testing.assert_close(good[key][0][name], tensor, rtol=1e-2, atol=1e-3)


def test_a_group_that_takes_too_much_memory_is_halved_once_for_all(sandbox, monkeypatch):
    take, sizes = StackedStep.take, []

    def hungry(self, members):
        if len(members) > 2:
            sizes.append(len(members))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return take(self, members)

    monkeypatch.setattr(StackedStep, "take", hungry)
    sandbox.run(GROUPED, ensemble="16", seeds=[0, 1, 2, 3])
    assert sizes == [4]
    assert sorted(len(manifest.get("group", [])) for _, manifest in fits(sandbox).values()) == [2] * 12


def test_gradients_are_clipped_as_torch_clips_each():
    generator = torch.Generator().manual_seed(0)
    models = [nn.Linear(3, 2) for _ in range(3)]
    for i, model in enumerate(models):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator) * 10.0 ** (i - 1)
    stacked = []
    for name, _ in models[0].named_parameters():
        tensor = torch.stack([model.get_parameter(name).detach() for model in models]).requires_grad_()
        tensor.grad = torch.stack([model.get_parameter(name).grad for model in models])
        stacked.append(tensor)
    clip_each(stacked, 0.7)
    for i, model in enumerate(models):
        nn.utils.clip_grad_norm_(model.parameters(), 0.7)
        for p, tensor in zip(model.parameters(), stacked, strict=True):
            torch.testing.assert_close(tensor.grad[i], p.grad)


def test_a_member_that_joins_takes_nothing_from_those_that_are_further(sandbox, monkeypatch):
    """One seed alone, stopped at step 7; then two seeds: each goes on from where it is, and ends as it would alone."""
    whole = beside(sandbox, "whole")
    whole.run(GROUPED, seeds=[0])
    steps = stopping(monkeypatch, fit, "backward")
    with pytest.raises(InterruptedRunError):
        sandbox.run(GROUPED, seeds=[0])
    sandbox.run(GROUPED, ensemble="16")
    assert len(steps) == 20 + 20  # seed 0 goes on alone from step 7, seed 1 has nobody to go with
    (first,) = [value[0] for key, value in fits(whole).items() if value[1]["generation"] == 0]
    (again,) = [v[0] for key, v in fits(sandbox).items() if v[1]["generation"] == 0 and key[1] == (0,)]
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("commits", [1, 2, 3])
def test_a_kill_between_commits_of_several_groups_changes_no_bytes(sandbox, monkeypatch, commits):
    """Four seeds in groups of two: what is finished keeps its group, and is not computed again."""
    few = {"ensemble": "2", "seeds": [0, 1, 2, 3]}
    sandbox.run(GROUPED, **few)
    reference = sandbox.artefacts()
    other = beside(sandbox, "other")
    count, take, steps = [], StackedStep.take, []

    class Killed(BaseException):
        pass

    def boundary(name):
        if name == "cleaned":
            count.append(1)
            if len(count) == 1 + commits:
                raise Killed

    def counted(self, members):
        steps.append(len(members))
        return take(self, members)

    monkeypatch.setattr(StackedStep, "take", counted)
    monkeypatch.setattr(store_module, "boundary", boundary)
    with pytest.raises(Killed):
        other.run(GROUPED, **few)
    monkeypatch.setattr(store_module, "boundary", lambda name: None)
    other.run(GROUPED, **few)
    assert other.artefacts() == reference
    assert steps == [2] * (3 * 2 * 20)  # three fits of four seeds, 20 steps each, none twice


class Scaled(VAE):
    """With a parameter of no dimension, one that is not trained, and a tensor of its own if `odd`."""

    odd: bool = False

    def build(self, info):
        model = super().build(info)
        model.scale = nn.Parameter(torch.ones(()))
        model.fixed = nn.Parameter(torch.randn(model.latent if hasattr(model, "latent") else 2), requires_grad=False)
        model.register_buffer("shift", torch.randn(()) if self.odd else torch.ones(()))
        return model

    def predict(self, model, inputs):
        prediction = super().predict(model, inputs)
        return prediction._replace(decoded=prediction.decoded * model.scale + model.shift + model.fixed.sum())


@pytest.mark.parametrize("odd", [False, True])
def test_unusual_parameters(sandbox, monkeypatch, odd):
    """Scalars and frozen ones are as alone, also after an interruption; models with buffers of their own go alone."""
    recipe = GROUPED.replace("use: vae,", f"use: '{__name__}:Scaled', odd: {str(odd).lower()},")
    recipe = recipe.replace("train: {", "train: {clip_norm: 1.0, ")
    alone, together = both(sandbox, recipe)
    grouped = ["group" in manifest for _, manifest in together.values()]
    assert not any(grouped) if odd else all(grouped)
    for key, (state, _) in alone.items():
        for name, tensor in state.items():
            torch.testing.assert_close(together[key][0][name], tensor, rtol=1e-2, atol=1e-3)
        assert torch.equal(together[key][0]["fixed"], state["fixed"])
    if odd:
        return
    third = beside(sandbox, "third")
    stopping(monkeypatch, StackedStep, "take")
    with pytest.raises(InterruptedRunError):
        third.run(recipe, ensemble="16")
    third.run(recipe, ensemble="16")
    for key, (state, _) in together.items():
        assert all(torch.equal(tensor, fits(third)[key][0][name]) for name, tensor in state.items())
