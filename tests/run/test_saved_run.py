"""A finished run as other commands find it: its models, and why some are missing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from collapse_sim.core.errors import DivergedError, StoreError
from collapse_sim.core.machine import open_device
from collapse_sim.core.randomness import Draws
from collapse_sim.engine import artefacts
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.export import export
from collapse_sim.run.saved_run import ModelChoice, SavedRun, draw, refuse_to_fit
from tests.conftest import TINY
from tests.remedies.chains_of import VAE, digits, ran


def test_a_run_with_a_diverged_arm_can_be_scored_by_another_metric(sandbox, tmp_path):
    """What there is of it: the diverged chain is nan, and asking for its model says why there is none."""
    recipe = TINY.replace("seeds: [0, 1]", "seeds: [0]").replace("output: 0.5,", "output: 1.0e+38,")
    assert sandbox.run(recipe)["diverged"]
    folder = sandbox.root / "run"
    experiment = prepare(load(folder / "recipe.yaml"), sandbox.root)
    refuse_to_fit(experiment, sandbox.root / ".store", folder)
    with pytest.raises(DivergedError, match="seed 0: there is no model, its chain diverged at generation 1"):
        SavedRun.open(folder, sandbox.root).model(ModelChoice("accumulate+distill", 2, 0))
    models, absent = SavedRun.open(folder, sandbox.root).models(ModelChoice())
    assert len(models) == 4
    assert [text.endswith("(diverged)") for text in absent] == [True, True]


def test_the_model_of_a_merged_arm_is_the_merged_one(sandbox, tmp_path):
    """New rows are drawn from it, at the arm's temperature; it is exported; a run without it is incomplete."""
    axes = "merge: {use: neon, w: 1.5}, guidance: {use: temperature, b: 0.5}"
    arms, store = ran(sandbox, digits(VAE, axes))
    folder, plan = sandbox.root / "run", arms["remedy"][1]
    stored = SavedRun.open(folder, sandbox.root).model(ModelChoice("remedy", 1, 3))
    merged = artefacts.model(store, plan.model, (3,), open_device("cpu"))
    z = Draws((3,), "afterwards/7", 1).normal(6, 2)
    expected = (merged.decoder(0.5 * z).sigmoid() * 255).round().to(torch.uint8).reshape(6, 1, 8, 8)
    np.testing.assert_array_equal(draw(stored, 6, 7, "cpu")["image"], expected.numpy())

    export(stored, tmp_path / "exported", "none")
    weights = load_file(tmp_path / "exported" / "weights.safetensors")
    assert all(torch.equal(tensor, merged.state_dict()[name]) for name, tensor in weights.items())
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["digest"] == plan.model.digest

    experiment = prepare(load(folder / "recipe.yaml"), sandbox.root)
    refuse_to_fit(experiment, sandbox.root / ".store", folder)
    shutil.rmtree(store.block(plan.model, 3).folder.parent)
    with pytest.raises(StoreError, match="1 of its models and samples are not in"):
        refuse_to_fit(experiment, sandbox.root / ".store", folder)


def test_a_model_whose_rows_are_from_files_draws_its_own(sandbox):
    """It was fitted because a metric reads it."""
    np.save(sandbox.root / "one.npy", np.full((40, 2), 100.0))
    sandbox.run(f"""
    data: {{use: gaussian, dimensions: 2, rows: 40}}
    model: gaussian
    generations: 2
    seeds: [0, 1]
    arms: {{a: {{data: replace, rows_from: {{1: {sandbox.root / "one.npy"}}}}}}}
    metrics: [variance_ratio]
    """)
    run = SavedRun.open(sandbox.root / "run", sandbox.root)
    drawn = [draw(run.model(ModelChoice("a", k, 1)), 30, 0, "cpu")["x"] for k in range(3)]
    assert [rows.shape for rows in drawn] == [(30, 2)] * 3
    assert abs(drawn[1]).max() < 10
    np.testing.assert_allclose(drawn[2], 100.0)  # fitted to the rows of the file
