"""What the driver of a Ray cluster gets from a mirror before it hands out jobs."""

from __future__ import annotations

import pytest

from collapse_sim.core.machine import open_device
from collapse_sim.engine.work import JobContext
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.crew import Crew
from collapse_sim.run.run_place import RayPlace
from collapse_sim.store.store import Store
from tests.pruned import LAST, TOY

pytest.importorskip("ray", reason="the package ray is not installed: pip install 'collapse-sim[ray]'")


class Asked:
    """A mirror that notes what it is asked for, and has nothing."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def push(self, folders):
        pass

    def fetch(self, requests, missing, emit, *, locked=False):
        self.seeds += [seed for request in requests for seed in missing(request.spec, request.seeds, emit)]


class Cluster:
    nodes = ()


def test_what_was_pruned_is_not_fetched_again(sandbox, monkeypatch):
    from collapse_sim.run import ray_executor

    given = []
    monkeypatch.setattr(ray_executor, "RayExecutor", lambda *of, **options: given.append(of[3]))
    experiment = prepare(load(sandbox.recipe(TOY + LAST)), sandbox.root / "data")
    first_two = [spec for spec in experiment.specs() if spec.generation <= 1]  # tasks are one generation ahead
    early = sum(len(spec.seeds(experiment.recipe.seeds)) or 1 for spec in first_two)
    crew = Crew(RayPlace("local"), Cluster(), None, 1)
    for finished in (False, True):
        if finished:
            sandbox.run(TOY + LAST)
        store = Store(sandbox.root / ".store")
        store.mirror = Asked()
        crew.executor(experiment, JobContext(store, open_device("cpu"), print, sandbox.root / "data"), {})
        to_make = sum(map(len, given.pop().values()))
        assert (len(store.mirror.seeds), to_make) == ((0, 0) if finished else (early, 32))
