"""Chains of class-conditional models through the real loop: which labels samples have, and what is done with them."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from collapse_sim.core.component import Component
from collapse_sim.core.errors import InterruptedRunError, PluginError, RecipeError
from collapse_sim.core.machine import open_device
from collapse_sim.data.base import Info
from collapse_sim.data.data_files import ArrayRows
from collapse_sim.engine import artefacts
from collapse_sim.engine.work import Stop
from collapse_sim.families.flow_matching import FlowMatching
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.store.store import Store
from tests.engine.test_stacked import beside, stopping

VAE = "vae, hidden: 8, latent: 2, conditional: true"
FLOW = "flow_matching, network: {widths: [4, 8], attention: none}, sampling_steps: 2, conditional: true"
DDPM = "ddpm, network: {widths: [4, 8], attention: none}, timesteps: 25, sampler: ddim, conditional: true"
RECIPE = """
name: conditional
data: {{use: digits, rows: 60, held_out_rows: 20}}
model: {{use: {model}}}
train: {{steps: 4, batch_size: 32, evaluate: never}}
samples: {samples}
sampling: {{shard: 25}}
generations: {generations}
seeds: {seeds}
arms: {arms}
metrics: [{metrics}]
"""


def recipe(model=VAE, samples=50, generations=1, seeds="[3]", metrics="test_loss", **arms):
    arms = json.dumps(arms or {"replace": {"data": "replace"}})
    return RECIPE.format(model=model, samples=samples, generations=generations, seeds=seeds, metrics=metrics, arms=arms)


@pytest.fixture
def chains(sandbox):
    """Run a recipe -> its experiment, its store, its plans by arm."""

    def run(text, **options):
        sandbox.run(text, **options)
        experiment = prepare(load(sandbox.recipe(text)), sandbox.root / "data")
        store = Store(sandbox.root / ".store", Stop().check)
        return experiment, store, {plan.name: plan.generations for plan in experiment.arm_plans}

    return run


def rows_of(store, spec, split="samples", seed=3):
    return {name: np.array(column) for name, column in artefacts.columns(store, spec, seed, split)[1].items()}


@pytest.mark.parametrize("model", [VAE, FLOW, DDPM], ids=["vae", "flow_matching", "ddpm"])
@pytest.mark.parametrize("samples", [50, 150])
def test_labels_are_those_of_the_real_rows_from_the_last_and_again_from_there(chains, model, samples):
    """In every generation, so that the shares of classes stay what they are, whatever the models make of them."""
    experiment, store, plans = chains(recipe(model, samples))
    real = rows_of(store, experiment.data, "real")["label"]
    backwards = real[artefacts.real_order(experiment.data, 3)][59::-1]
    expected = np.concatenate([backwards] * 3)[:samples]
    for plan in plans["replace"]:
        rows = rows_of(store, plan.samples)
        assert rows["label"].dtype == np.int64
        np.testing.assert_array_equal(rows["label"], expected)
        assert rows["image"].shape == (samples, 1, 8, 8)


def test_the_next_generation_is_fitted_to_images_with_their_labels(chains):
    _, store, plans = chains(recipe(samples=50))
    samples = rows_of(store, plans["replace"][0].samples)
    table = artefacts.training_table(store, plans["replace"][1].fit, 3, open_device("cpu"))
    assert set(table.columns) == {"image", "label"}
    rows = table.gather(torch.arange(50))
    np.testing.assert_array_equal(rows["label"].numpy(), samples["label"])
    np.testing.assert_array_equal(rows["image"].numpy(), samples["image"])


def test_real_rows_and_samples_of_one_class_are_drawn_as_any_rows(chains):
    """A class needs no care that a real row and a sample for it are not both taken: rows are those of the plain arm."""
    mixed = {"data": {"use": "mix", "real": 0.5, "synthetic": 0.5, "redraw": True}}
    subsample = {"data": "accumulate-subsample"}
    plain = VAE.replace(", conditional: true", "")
    taken = []
    for model in (VAE, plain):
        _, store, plans = chains(recipe(model, 60, mix=mixed, subsample=subsample), run=model[-5:])
        order = artefacts.picked(store, plans["subsample"][1].fit, 3)
        taken.append((order, *artefacts.choice.drawn(plans["mix"][1].fit, 3)))
    for one, other in zip(*taken, strict=True):
        np.testing.assert_array_equal(one, other)


AXES = {
    "distill": {"data": "replace", "teacher": {"weights": {"output": 0.5, "encoder": 0.5}}},
    "guided": {"data": "replace", "model": {"guidance_scale": 2.0}},
    "sims": {"data": "replace", "guidance": {"use": "sims", "w": 0.5, "samples": 70, "train": {"steps": 2}}},
    "cold": {"data": "replace", "guidance": {"use": "temperature", "b": 0.5}},
    "truncated": {"data": "replace", "guidance": {"use": "truncation", "limit": 1.0}},
    "averaged": {"data": "replace", "retrain": {"ema": 0.9}},
    "accumulated": {"data": "accumulate", "samples": 90},
}


@pytest.mark.parametrize("model", [FLOW, pytest.param(DDPM, marks=pytest.mark.slow)], ids=["flow_matching", "ddpm"])
def test_other_axes_take_labels(chains, model):
    """Each runs, its samples are those of its own, and they are generated for the same labels."""
    _, store, plans = chains(recipe(model, plain={"data": "replace"}, **AXES))
    plain = rows_of(store, plans["plain"][1].samples)
    for arm in AXES:
        rows = rows_of(store, plans[arm][1].samples)
        np.testing.assert_array_equal(rows["label"][:50], plain["label"])
        assert not np.array_equal(rows["image"][:50], plain["image"]), arm
    fits = {plans[arm][0].fit.digest for arm in plans}
    assert len(fits) == 1  # another scale of guidance needs no other fit of generation 0


def test_fits_computed_together_are_those_alone(sandbox):
    text = recipe(FLOW, seeds="[3, 4]", plain={"data": "replace"}, distill=AXES["distill"])
    other = beside(sandbox, "other")
    sandbox.run(text)
    other.run(text, ensemble="16")
    groups = []
    for path in sandbox.root.glob(".store/objects/*/*/*/model.safetensors"):
        twin = other.root / path.relative_to(sandbox.root)
        groups.append(len(json.loads((twin.parent / "manifest.json").read_text()).get("group", [])))
        alone, together = load_file(path), load_file(twin)
        assert "unet.class_embedding.weight" in alone
        for name, tensor in alone.items():
            torch.testing.assert_close(together[name], tensor, rtol=2e-3, atol=2e-4)
    assert len(groups) == 6
    assert min(groups) >= 2  # none was fitted alone


@pytest.mark.parametrize("method", ["corrupt", "sample"])
def test_an_interrupted_chain_ends_in_the_same_bytes(sandbox, monkeypatch, method):
    """In the middle of a fit, where labels are dropped, and between two shards, whose labels are used again."""
    text, other = recipe(FLOW, samples=90), beside(sandbox, "other")
    sandbox.run(text)
    with monkeypatch.context() as patched:
        stopping(patched, FlowMatching, method)
        with pytest.raises(InterruptedRunError):
            other.run(text)
    assert len(other.artefacts()) < len(sandbox.artefacts())
    other.run(text)
    assert other.artefacts() == sandbox.artefacts()


def test_a_verifier_keeps_the_same_share_of_each_class(chains):
    _, store, plans = chains(
        recipe(samples=60, verified={"data": "replace", "curation": {"use": "verify", "keep": 0.5}})
    )
    curation = plans["verified"][0].curation
    labels = artefacts.candidates(store, curation, 3, open_device("cpu"))["label"].numpy()
    kept = artefacts.kept(store, curation, 3)["index"]
    assert len(labels) == 120
    np.testing.assert_array_equal(labels[:60], labels[60:])  # two draws for the same conditions
    assert 2 * np.bincount(labels[kept], minlength=10) == pytest.approx(np.bincount(labels, minlength=10), abs=2)
    table = artefacts.training_table(store, plans["verified"][1].fit, 3, open_device("cpu"))
    np.testing.assert_array_equal(table.gather(torch.arange(60))["label"].numpy(), labels[kept])


def test_samples_go_to_the_nearest_centre_of_their_own_class(chains):
    """With more centres than rows of a class these are the real images: every sample becomes one of its label."""
    snapped = {"data": "replace", "curation": {"use": "snap", "centres": 60}}
    experiment, store, plans = chains(recipe(snapped=snapped))
    real, order = rows_of(store, experiment.data, "real"), artefacts.real_order(experiment.data, 3)[:60]
    images = real["image"][order].reshape(60, -1)
    rows = {
        n: c.numpy() for n, c in artefacts.stacked_columns(store, plans["snapped"][0].curation, [3], "samples").items()
    }
    for image, label in zip(rows["image"][0], rows["label"][0], strict=True):
        equal = np.flatnonzero((images == image.reshape(-1)).all(1))
        assert label in real["label"][order][equal]


def test_pictures_by_class(sandbox):
    conditional, plain = {"data": "replace"}, {"data": "replace", "model": {"conditional": False}}
    sandbox.run(recipe(conditional=conditional, plain=plain))
    names = sorted(path.name for path in (sandbox.root / "run" / "pictures").glob("*-classes.png"))
    assert names == ["00-conditional-classes.png"]
    sandbox.run(recipe(FLOW), run="flow")
    assert (sandbox.root / "flow" / "pictures" / "denoising-generation-001.png").stat().st_size > 1000


def test_metrics_by_class_of_a_run(sandbox):
    """Every class has a value that is stored with the score."""
    metrics = "conditional_accuracy, fid_by_class, coverage_by_class"
    text = recipe(metrics=metrics, samples=60).replace("rows: 60, held_out_rows: 20", "rows: 300, held_out_rows: 100")
    sandbox.run(text)
    for line in sandbox.journal(event="scores"):
        for metric in metrics.split(", "):
            assert all(f"{metric}[{label}]" in line["metrics"] for label in range(10))
        accuracy = [line["metrics"][f"conditional_accuracy[{label}]"][0] for label in range(10)]
        assert line["metrics"]["conditional_accuracy"][0] == pytest.approx(np.mean(accuracy))


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            recipe(FLOW.replace("conditional: true", "guidance_scale: 2")),
            ["recipe.yaml:4: model", "guidance_scale: is for conditional: true, found 2"],
        ),
        (
            recipe(VAE).replace(
                "use: digits, rows: 60, held_out_rows: 20", "use: 'tests.engine.test_conditional_chains:Images'"
            ),
            ["recipe.yaml:4: model: conditional: needs rows with labels, and this data has none; remove it, or use"],
        ),
        (
            recipe(VAE.replace("true", "false"), metrics="conditional_accuracy"),
            ["recipe.yaml:11: metrics.conditional_accuracy: it needs samples that were generated for a label"],
        ),
        (
            recipe(VAE, latent={"data": "replace", "curation": "latent"}),
            ["recipe.yaml:10: arms.latent.curation: ", "this model's encoder is given the label"],
        ),
    ],
    ids=["guidance without labels", "data without labels", "metric without labels", "probe of a labelled encoder"],
)
def test_what_does_not_fit_is_refused_before_any_work(sandbox, text, messages):
    with pytest.raises(RecipeError) as error:
        prepare(load(sandbox.recipe(text)), sandbox.root / "data")
    for message in messages:
        assert message in str(error.value)


class Images(Component):
    """Grey images without labels."""

    kind: ClassVar[str] = "images"
    seeded: ClassVar[bool] = False

    def inspect(self, folder):
        return Info("images", {"image": ((1, 8, 8), "uint8")}, 60, 60, 20, fingerprint="grey")

    def open(self, folder):
        rows = ArrayRows({"image": np.zeros((60, 1, 8, 8), np.uint8)})
        return rows, rows


class Misnumbered(Images):
    """Labels from 1 to 3, of three classes."""

    def inspect(self, folder):
        columns = {"image": ((1, 8, 8), "uint8"), "label": ((), "int64")}
        return Info("images", columns, 60, 60, 20, classes=3, fingerprint="from one")

    def open(self, folder):
        rows = ArrayRows({"image": np.zeros((60, 1, 8, 8), np.uint8), "label": 1 + np.arange(60) % 3})
        return rows, rows


def test_labels_out_of_range_are_found_before_anything_is_fitted(sandbox):
    text = recipe(VAE).replace("use: digits, rows: 60, held_out_rows: 20", f"use: '{__name__}:Misnumbered'")
    with pytest.raises(PluginError, match=r"Misnumbered: labels from 1 to 3; allowed: 0 to 2, as its Info says"):
        sandbox.run(text)
    assert not list(sandbox.root.glob(".store/objects/*/*/*/model.safetensors"))
