"""Fixtures of the engine's tests."""

from __future__ import annotations

import json

import pytest

from collapse_sim.engine.programs import Programs
from collapse_sim.engine.work import Stop
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run import session
from collapse_sim.store.store import Store
from tests.rank_pool import run_together


@pytest.fixture
def curated(sandbox):
    """Run a recipe of some arms -> (their plans by name, the store)."""

    def run(recipe, generations=1, **arms):
        sandbox.root.mkdir(exist_ok=True)
        text = recipe.format(generations=generations, arms=json.dumps(arms))
        sandbox.run(text)
        experiment = prepare(load(sandbox.recipe(text)), sandbox.root / "data")
        store = Store(sandbox.root / ".store", Stop().check)
        return {plan.name: plan.generations for plan in experiment.arm_plans}, store

    return run


@pytest.fixture
def ranked(sandbox, pool):
    """Run a recipe with two ranks in a folder -> their exit codes, and the folder."""

    def run(text, name="ranks", function=run_together, *args):
        root = sandbox.root / name
        root.mkdir(exist_ok=True)
        path = root / "recipe.yaml"
        path.write_text(text)
        return pool.both(function, path, root, *args), root

    return run


@pytest.fixture
def made(monkeypatch):
    """The `Programs` of each run, with a backend that takes no time."""
    runs: list[Programs] = []

    def backend(graph, inputs):
        runs[-1].compilations += 1
        return graph.forward  # traced and run, but not compiled to machine code

    def programs_of(mode):
        runs.append(Programs(mode, backend))
        runs[-1].compilations = 0
        return runs[-1]

    monkeypatch.setattr(session, "Programs", programs_of)
    return runs
