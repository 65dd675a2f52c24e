"""What a task does, without Ray: a worker is a plain process."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from collapse_sim.core.errors import DivergedError, RecipeError, StoreError
from collapse_sim.core.events import JobFinished
from collapse_sim.core.ranks import Ranks
from collapse_sim.run import ray_worker
from collapse_sim.run.ray_messages import Outcome, WorkOrder
from collapse_sim.run.ray_worker import Workshop, restored
from collapse_sim.store.blocks import object_folder
from collapse_sim.store.failures import Failures
from tests.conftest import artefacts
from tests.run.ray_orders import TOY, order_for


@pytest.fixture
def order(sandbox, monkeypatch) -> WorkOrder:
    monkeypatch.chdir(sandbox.root)
    return order_for(sandbox)[1]


def make_all(workshop: Workshop, *kinds: str) -> list[Outcome]:
    """A task for each spec of these kinds, or for each."""
    seeds, outcomes = workshop.experiment.recipe.seeds, []
    for spec in workshop.experiment.specs():
        if not kinds or spec.kind in kinds:
            job = (spec.digest, spec.seeds(seeds), ("replace",))
            outcomes.append(workshop.work([job], 1, "cpu", lambda event: None, Failures(), Ranks()))
    return outcomes


def test_a_worker_makes_the_bytes_of_a_plain_run_from_the_recipes_document(sandbox, order, tmp_path):
    outcomes = make_all(Workshop(order))
    assert all(not outcome.failed and outcome.ended is None for outcome in outcomes)
    made = sandbox.artefacts()
    (sandbox.root / ".store").rename(sandbox.root / "by-worker")
    sandbox.run(TOY)
    assert made == sandbox.artefacts() != {}
    assert made == artefacts(sandbox.root / "by-worker")


def test_what_is_there_is_not_made_again(order):
    workshop = Workshop(order)
    first, again = make_all(workshop), make_all(workshop)
    keys = {(spec.digest, seed) for spec in workshop.experiment.specs() for seed in spec.seeds((0, 1)) or (-1,)}
    assert {key for outcome in first for key in outcome.made} == keys
    assert [outcome.made for outcome in again] == [[] for _ in again]


def test_what_another_node_has_made_is_awaited(order, tmp_path):
    """A network file system shows it after some seconds."""
    workshop = Workshop(order)
    fit, samples = (
        next(spec for spec in workshop.experiment.specs() if spec.kind == kind) for kind in ("fit", "samples")
    )

    def made(of: Workshop, spec) -> Outcome:
        return of.work([(spec.digest, (0, 1), ("replace",))], 1, "cpu", lambda event: None, Failures(), Ranks())

    make_all(workshop, "data")
    made(workshop, fit)
    folder = object_folder(order.store, fit.digest)
    folder.rename(tmp_path / "hidden")
    appears = threading.Timer(0.3, lambda: (tmp_path / "hidden").rename(folder))
    appears.start()
    outcome = made(Workshop(order), samples)
    appears.join()
    assert outcome.ended is None
    assert outcome.made == [(samples.digest, 0), (samples.digest, 1)]


def test_nothing_is_made_from_what_failed_for_another_task(order):
    workshop = Workshop(order)
    fit = next(spec for spec in workshop.experiment.specs() if spec.kind == "fit")
    make_all(workshop, "data")
    told = Outcome(failed=[((fit.digest, (0, 1), ("replace",)), DivergedError("nan", (1,)))])
    failures = restored([told, told], workshop)
    assert len(failures.diverged()) == 1
    samples = next(spec for spec in workshop.experiment.specs() if spec.kind == "samples")
    workshop.work([(fit.digest, (0,), ("replace",))], 1, "cpu", lambda event: None, Failures(), Ranks())
    events: list[object] = []
    outcome = workshop.work([(samples.digest, (0, 1), ("replace",))], 1, "cpu", events.append, failures, Ranks())
    assert outcome.made == [(samples.digest, 0)]
    assert [event.seeds for event in events if isinstance(event, JobFinished)] == [(0,)]
    assert outcome.failed[0][0] == (fit.digest, (0, 1), ("replace",))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"program": "collapse-sim 0.0.1"}, RecipeError, "has another version of the program than the driver: "),
        ({"folder": "/nowhere/at/all"}, StoreError, "does not see the working directory /nowhere/at/all"),
        ({"store": Path("/nowhere/store")}, StoreError, "/nowhere/store: node .* does not see it"),
        ({"mark": ("mark", "other")}, StoreError, "does not see it: all nodes need the same store"),
        ({"plan": "0"}, RecipeError, "plans other artefacts from this recipe than the driver"),
    ],
)
def test_a_node_that_differs_from_the_drivers_is_named(order, monkeypatch, change, kind, message):
    monkeypatch.setattr(ray_worker, "VISIBLE_S", 0.1)
    monkeypatch.setattr(ray_worker, "ABSENT_S", 0.1)
    with pytest.raises(kind, match=message) as caught:
        Workshop(replace(order, **change))
    assert "node " in str(caught.value)
