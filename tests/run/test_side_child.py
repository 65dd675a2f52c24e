from __future__ import annotations

import contextlib
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

from collapse_sim.core.events import JobFinished, JobStarted, Waiting
from collapse_sim.core.machine import open_device
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.side_child import ChainsEnded, SideEnded, SideOrder, Telling, ToldText, serve
from collapse_sim.store.jobs import Job
from collapse_sim.store.machine_lock import locked
from tests.conftest import Sandbox, changed
from tests.pruned import TOY, VAE


def pair() -> tuple[Connection, Connection]:
    ours, theirs = socket.socketpair()
    return Connection(ours.detach()), Connection(theirs.detach())


@contextlib.contextmanager
def serving(sandbox: Sandbox, text: str, **more: object) -> Iterator[Connection]:
    """The parent's end of a connection to a thread that serves, for a run that has begun."""
    experiment = prepare(load(sandbox.recipe(text)), sandbox.root / "data")
    order = SideOrder(
        experiment, sandbox.root / "run", sandbox.root / ".store", sandbox.root / "data", open_device("cpu"), 60.0, 1,
        "off", None,
    )._replace(**more)  # fmt: skip
    ours, theirs = pair()
    other = threading.Thread(target=serve, args=(theirs,), daemon=True)
    other.start()
    ours.send_bytes(pickle.dumps(order))
    yield ours
    ours.close()
    other.join(20)
    assert not other.is_alive()


def told(connection: Connection) -> list[object]:
    """All messages, to the last one."""
    messages: list[object] = []
    while not messages or not isinstance(messages[-1], SideEnded):
        assert connection.poll(30), messages
        messages.append(connection.recv())
    return messages


def test_it_makes_what_the_run_lacks_and_records_nothing(sandbox, tmp_path_factory):
    """The bytes of a run, and an event of each artefact, begun before it is there and made."""
    sandbox.run(TOY)
    twin = Sandbox(tmp_path_factory.mktemp("twin"))
    with serving(twin, TOY) as ours:
        messages = told(ours)
    assert messages[-1] == SideEnded("")
    assert twin.artefacts() == sandbox.artefacts()
    assert not (twin.root / "run").exists()
    begun = {(event.digest, event.seeds) for event in messages if isinstance(event, JobStarted)}
    made = {(event.digest, event.seeds) for event in messages if isinstance(event, JobFinished)}
    assert begun == made
    assert len(made) == len(twin.artefacts())


def test_it_tells_of_chains_that_end_and_goes_on_with_others(sandbox):
    wild = changed(VAE, ("steps: 4", "steps: 4, learning_rate: 1.0e+30"))
    with serving(sandbox, wild) as ours:
        messages = told(ours)
    assert messages[-1] == SideEnded("")
    (ended,) = (message for message in messages if isinstance(message, ChainsEnded))
    assert ended.seeds == (0,)
    assert "generation 0, seed 0: " in ended.message


def test_it_ends_when_its_parent_is_gone_although_it_waits(sandbox):
    """Which it does as long as others work: the parent decides when that is too long."""
    sandbox.run(TOY)
    experiment = prepare(load(sandbox.recipe(TOY)), sandbox.root / "data")
    longer = changed(TOY, ("generations: 2", "generations: 3"))
    experiment = prepare(load(sandbox.recipe(longer)), sandbox.root / "data")
    locks = sandbox.root / ".store" / "locks"
    fits = [Job(plan.generations[3].fit, (0, 1), ()).lock_name for plan in experiment.arm_plans]
    with contextlib.ExitStack() as held:
        for name in fits:
            held.enter_context(locked(locks / f"{name}.lock"))
        with serving(sandbox, longer) as ours:
            assert ours.poll(20)
            assert isinstance(ours.recv(), Waiting)
            began = time.monotonic()
        assert time.monotonic() - began < 10


def test_what_it_cannot_do_is_told(sandbox):
    with serving(sandbox, TOY, mirror="nowhere://x/y") as ours:
        assert "nowhere" in told(ours)[-1].problem


def test_lines_on_stderr_are_told_whole():
    ours, theirs = pair()
    stream = ToldText(Telling(theirs))
    stream.write("one ")
    assert not ours.poll()
    stream.write("line\nand another\nrest")
    assert ours.recv().text == "one line\nand another\n"
    assert not ours.poll()


def test_the_module_of_another_process_imports_no_torch():
    """So it takes what it is sent at once."""
    code = "import sys, collapse_sim.run.side_child; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
