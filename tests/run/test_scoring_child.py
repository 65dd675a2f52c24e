from __future__ import annotations

import pickle
import shutil
import socket
import threading
from multiprocessing.connection import Connection

from collapse_sim.core.machine import open_device
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.scoring_child import Surroundings, serve
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

    ours, theirs = pair()
    other = threading.Thread(target=serve, args=(theirs,))
    other.start()
    device = open_device("cpu")
    surroundings = Surroundings(experiment, sandbox.root / ".store", sandbox.root / "data", device, 1)
    ours.send_bytes(pickle.dumps(surroundings))
    ours.send([(spec.digest, (0, 1), ("arm",)) for spec in scores])
    answer = ours.recv()
    assert answer.problem == ""
    assert answer.made.keys() == {(spec.digest, seed) for spec in scores for seed in (0, 1)}
    assert sandbox.artefacts() == before

    ours.send([("another experiment's", (0, 1), ("arm",))])
    assert "KeyError" in ours.recv().problem
    ours.close()
    other.join(10)
    assert not other.is_alive()
