from __future__ import annotations

import contextlib
import pickle
import shutil
import socket
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection

from collapse_sim.core.machine import open_device
from collapse_sim.plan.experiment import Experiment, prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.scoring_child import Surroundings, serve
from collapse_sim.store.jobs import Job
from collapse_sim.store.machine_lock import locked
from tests.conftest import Sandbox
from tests.pruned import TOY


def pair() -> tuple[Connection, Connection]:
    ours, theirs = socket.socketpair()
    return Connection(ours.detach()), Connection(theirs.detach())


def test_it_makes_what_it_is_asked_for_until_its_parent_is_gone(sandbox):
    """Scores of a toy, removed from its store: the same bytes again. What cannot be made is a problem, no end."""
    sandbox.run(TOY)
    before = sandbox.artefacts()
    experiment = prepare(load(sandbox.recipe(TOY)), sandbox.root / "data")
    scores = [plan.generations[1].scores["variance_ratio"] for plan in experiment.arm_plans]
    for spec in scores:
        shutil.rmtree(sandbox.root / ".store" / "objects" / spec.digest[:2] / spec.digest)
    assert sandbox.artefacts() != before

    with serving(sandbox, experiment) as ours:
        ours.send([(spec.digest, (0, 1), ("arm",)) for spec in scores])
        answer = ours.recv()
        assert answer.problem == ""
        assert answer.made.keys() == {(spec.digest, seed) for spec in scores for seed in (0, 1)}
        assert sandbox.artefacts() == before

        ours.send([("another experiment's", (0, 1), ("arm",))])
        assert "KeyError" in ours.recv().problem


@contextlib.contextmanager
def serving(sandbox: Sandbox, experiment: Experiment) -> Iterator[Connection]:
    """The parent's end of a connection to a thread that serves."""
    ours, theirs = pair()
    other = threading.Thread(target=serve, args=(theirs,), daemon=True)
    other.start()
    device = open_device("cpu")
    surroundings = Surroundings(experiment, sandbox.root / ".store", sandbox.root / "data", device, 1)
    ours.send_bytes(pickle.dumps(surroundings))
    yield ours
    ours.close()
    other.join(10)
    assert not other.is_alive()


def test_what_other_processes_are_making_is_left_to_the_parent(sandbox):
    """It may take hours: the parent waits for it as for everything else, or ends, and makes other things meanwhile."""
    sandbox.run(TOY)
    experiment = prepare(load(sandbox.recipe(TOY)), sandbox.root / "data")
    scores = [plan.generations[1].scores["variance_ratio"] for plan in experiment.arm_plans]
    for spec in scores:
        shutil.rmtree(sandbox.root / ".store" / "objects" / spec.digest[:2] / spec.digest)
    taken = Job(scores[0], (0, 1), ()).lock_name
    with locked(sandbox.root / ".store" / "locks" / f"{taken}.lock"), serving(sandbox, experiment) as ours:
        ours.send([(spec.digest, (0, 1), ("arm",)) for spec in scores])
        assert ours.poll(20), "it waits"
        answer = ours.recv()
    assert answer.problem == ""
    assert answer.made.keys() == {(scores[1].digest, seed) for seed in (0, 1)}
