"""Rates from the manifests of a store: what such artefacts took before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collapse_sim.plan.costs import kind_of_spec
from collapse_sim.plan.earlier import earlier_rates
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.store import sealed
from tests.conftest import SMALL, Sandbox

TRAIN = {"batch_size": 8, "accumulate": 1, "optimizer": "sgd", "precision": "fp32", "clip_norm": None, "ema": None}
FIT = {"family": {"use": "x"}, "train": TRAIN, "data": "d", "teacher": None}


def write(store: Path, digest: str, block: str, content: dict[str, Any], updates: int = 0) -> Path:
    folder = store / "objects" / digest[:2] / digest / block
    folder.mkdir(parents=True)
    defaults = {"digest": digest, "seeds": [0], "stacked": False, "machine": {"device": "cpu (2 threads)"}}
    (folder / "manifest.json").write_text(sealed.text(defaults | content))
    (folder / "history.json").write_text(json.dumps({"updates": updates}))
    return folder


def fit(wall_s: float, **more: Any) -> dict[str, Any]:
    return {"kind": "fit", "description": FIT, "wall_s": wall_s, **more}


def test_seconds_per_update_are_those_of_the_longer_fits(tmp_path: Path) -> None:
    """Their median; a short fit is mostly overhead, one of a group has its share of the group's time."""
    write(tmp_path, "aa1", "s0", fit(9.0), updates=10)
    write(tmp_path, "aa2", "s0", fit(10.0), updates=100)
    write(tmp_path, "aa3", "s0", fit(60.0, group=["a", "b"]), updates=100)
    write(tmp_path, "aa4", "s0", fit(28.0), updates=140)
    write(tmp_path, "aa5", "s0", fit(1000.0, machine={"device": "cuda:0 (NVIDIA H100)"}), updates=140)
    (rate,) = earlier_rates(tmp_path, "cpu (1 thread)").values()
    assert rate.unit_s == pytest.approx(0.2)
    (rate,) = earlier_rates(tmp_path, "cuda:1 (NVIDIA H100)").values()
    assert rate.unit_s == pytest.approx(1000 / 140)
    assert earlier_rates(tmp_path, "cuda:0 (NVIDIA H200)") == {}


def test_closed_forms_samples_and_scores(tmp_path: Path) -> None:
    closed = {"family": {"use": "x"}, "train": None, "data": "d", "teacher": None, "budget": None}
    closed["sources"] = [["p", -1, 20, 0, None], ["q", 0, 30, 0, None]]
    stack = {"seeds": [0, 1, 2, 3], "stacked": True}
    write(tmp_path, "bb1", "s0-3", {"kind": "fit", "description": closed, "wall_s": 2.0, **stack})
    write(
        tmp_path,
        "bb2",
        "s0-3",
        {"kind": "samples", "description": {"model": "bb1", "rows": 25}, "wall_s": 5.0, **stack},
    )
    write(
        tmp_path, "bb3", "s0-3", {"kind": "scores", "description": {"metric": "m", "data": "d"}, "wall_s": 1.0, **stack}
    )
    found = sorted(rate.unit_s for rate in earlier_rates(tmp_path, "cpu").values())
    assert found == pytest.approx(sorted([2.0 / (4 * 50), 5.0 / (4 * 25), 1.0 / 4]))


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "fit", "description": {}, "wall_s": 1.0},
        {"kind": "fit", "description": FIT, "wall_s": "x"},
        {"kind": "fit", "description": FIT},
        {"kind": "fit", "description": FIT, "wall_s": 1.0, "machine": None},
        {"kind": "fit", "description": FIT, "wall_s": 1.0, "group": []},
        {"kind": "samples", "description": {"model": "gone", "rows": 5}, "wall_s": 1.0},
        {"kind": 5, "description": {}, "wall_s": 1.0},
    ],
)
def test_manifests_of_other_versions_are_passed_over(tmp_path: Path, content: dict[str, Any]) -> None:
    write(tmp_path, "cc1", "s0", content, updates=10)
    damaged = write(tmp_path, "cc2", "s0", fit(5.0), updates=10) / "manifest.json"
    damaged.write_bytes(damaged.read_bytes().replace(b"5.0", b"6.0"))
    (tmp_path / "objects" / "stray").touch()
    write(tmp_path, "cc3", "s0", fit(7.0), updates=10)
    (rate,) = earlier_rates(tmp_path, "cpu").values()
    assert rate.unit_s == pytest.approx(0.7)


def test_a_store_that_does_not_exist_knows_nothing(tmp_path: Path) -> None:
    assert earlier_rates(tmp_path / "none", "cpu") == {}


def test_a_run_leaves_a_rate_for_every_kind_of_artefact(sandbox: Sandbox) -> None:
    """Features too; so that a longer run of the same recipe is predicted."""
    text = SMALL.replace("[test_loss]", "[test_loss, {use: fid, features: classifier}]")
    sandbox.run(text)
    experiment = prepare(load(sandbox.recipe(text)), sandbox.root)
    rates = earlier_rates(sandbox.root / ".store", "cpu (2 threads)")
    assert {kind_of_spec(spec) for spec in experiment.specs()} == rates.keys()
    assert all(rate.unit_s > 0 for rate in rates.values())


def test_remedies_leave_rates_too(sandbox: Sandbox) -> None:
    """Also samples of merged models, which cost what those of the fit do, and fits to own samples."""
    text = """
name: remedied
data: {use: gaussian, dimensions: 2, rows: 40}
model: gaussian
generations: 1
seeds: 2
arms:
  plain: {data: replace}
  merged: {data: replace, curation: {use: verify, score: truth}, merge: {use: neon, w: 0.5}}
metrics: [w2]
"""
    sandbox.run(text)
    experiment = prepare(load(sandbox.recipe(text)), sandbox.root)
    rates = earlier_rates(sandbox.root / ".store", "cpu (2 threads)")
    assert {kind_of_spec(spec) for spec in experiment.specs()} == rates.keys()
    plain, merged = (arm.generations[0] for arm in experiment.arm_plans)
    assert merged.samples.model.kind == "merge"
    assert kind_of_spec(plain.samples) == kind_of_spec(merged.samples)


def test_rows_from_files_have_a_rate_of_their_own(sandbox: Sandbox) -> None:
    """So that the time of a recipe without a model is known once a store has such rows."""
    for k in range(2):
        np.save(sandbox.root / f"{k}.npy", np.zeros((20, 2)))
    arms = f'{{elsewhere: {{rows_from: "{sandbox.root}/{{generation}}.npy"}}}}'
    settings = "data: {use: gaussian, dimensions: 2, rows: 30}\ngenerations: 1\nseeds: 2\nmetrics: [sliced_w2]\n"
    recipe = sandbox.recipe(f"{settings}arms: {arms}\n")
    sandbox.run(recipe)
    rates = earlier_rates(sandbox.root / ".store", "cpu")
    specs = list(prepare(load(recipe), sandbox.root / "data").specs())
    assert {kind_of_spec(spec) for spec in specs} == rates.keys()
