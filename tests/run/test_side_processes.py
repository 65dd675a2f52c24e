from __future__ import annotations

import json
import pickle
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from collapse_sim.core.errors import PluginError, RecipeError, UnderWayElsewhereError
from collapse_sim.core.events import JobFinished, JobStarted, Note, Waiting
from collapse_sim.run import side_processes
from collapse_sim.run.side_processes import SideProcesses
from collapse_sim.store import waiting
from collapse_sim.store.jobs import Job
from collapse_sim.store.machine_lock import locked
from tests.commands import Start, commands
from tests.conftest import SMALL, Sandbox, artefacts, changed
from tests.pruned import LAST, TOY, VAE
from tests.run.test_scoring_process import PLUGIN

RECIPE = changed(VAE, ("seeds: [0]", "seeds: [0, 1]"))


@pytest.fixture
def twin(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Another folder, with a store of its own."""
    return Sandbox(tmp_path_factory.mktemp("twin"))


@pytest.fixture
def slow_start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[SideProcesses]]:
    """slow_start(2): a run begins once another process has made so many artefacts. Returns the runs' other processes.

    `then` is called with them.
    """
    begun: list[SideProcesses] = []

    def wait_for(count: int, then: Callable[[SideProcesses], None] = lambda others: None) -> list[SideProcesses]:
        make = SideProcesses.make_all

        def patient(self, *arguments):
            if self not in begun:
                begun.append(self)
                deadline = time.monotonic() + 120
                while len(self._shown) < count and not self._others[0].over and time.monotonic() < deadline:
                    time.sleep(0.01)
                then(self)
            return make(self, *arguments)

        monkeypatch.setattr(SideProcesses, "make_all", patient)
        return begun

    return wait_for


def until_one_has_ended(others: SideProcesses) -> None:
    """Wait until another process has told of a chain that ended."""
    deadline = time.monotonic() + 120
    while not others._ended and time.monotonic() < deadline:
        time.sleep(0.01)


def recorded(sandbox: Sandbox, *without: str) -> list[dict]:
    """The journal, without times and what says how many processes there were."""
    volatile = ("hash", "time", "wall_s", "device", *without)
    return [{k: v for k, v in line.items() if k not in volatile} for line in sandbox.journal()]


def test_two_processes_make_the_bytes_of_one(sandbox, twin, slow_start, capfd):
    """The same artefacts, journal and figures, and both processes' artefacts count as made."""
    plain = sandbox.run(RECIPE)
    runs = slow_start(3)
    both = twin.run(RECIPE, processes=2)
    (others,) = runs
    assert len(others._shown) >= 3
    assert twin.artefacts() == sandbox.artefacts()
    assert recorded(twin) == recorded(sandbox)
    assert both | {"wall_s": 0, "run": ""} == plain | {"wall_s": 0, "run": ""}
    assert both["made"] == len(twin.artefacts())
    assert capfd.readouterr().out == ""
    assert [other.child.poll() is None for other in others._others] == [False]
    assert not list((twin.root / ".store" / "locks").iterdir())
    assert not list((twin.root / ".store" / "tmp").iterdir())


@pytest.mark.slow
def test_a_process_that_is_killed_costs_nothing_but_a_line(sandbox, twin, slow_start, capsys):
    sandbox.run(RECIPE)
    slow_start(2, lambda others: others._others[0].child.kill())
    capsys.readouterr()
    both = twin.run(RECIPE, processes=2)
    assert capsys.readouterr().err.splitlines()[-1:] == [
        "warning: --on processes: process 2 of 2 failed (it was ended by SIGKILL, perhaps for want of memory): the run "
        "goes on without it"
    ]
    assert twin.artefacts() == sandbox.artefacts()
    assert both["made"] == len(twin.artefacts())


def test_a_process_that_does_not_start_costs_nothing_but_a_line(sandbox, twin, slow_start, monkeypatch, capsys):
    sandbox.run(SMALL)
    capsys.readouterr()
    monkeypatch.setattr(side_processes, "START", "raise SystemExit(9)")
    slow_start(1)
    twin.run(SMALL, processes=2)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "--on processes" in line)
    assert line.endswith("process 2 of 2 failed (it ended with code 9): the run goes on without it")
    assert twin.artefacts() == sandbox.artefacts()


def test_what_cannot_be_sent_is_computed_here(sandbox, twin, monkeypatch, capsys):
    """Such as a class of a notebook."""

    def refuse(order):
        raise pickle.PicklingError("a class of __main__")

    sandbox.run(TOY)
    monkeypatch.setattr(side_processes.pickle, "dumps", refuse)
    twin.run(TOY, processes=3)
    assert "1 of 3 processes compute the run: no other can be started (a class of __main__)" in capsys.readouterr().err
    assert twin.artefacts() == sandbox.artefacts()


@pytest.mark.slow
def test_a_run_that_prunes(sandbox, twin, slow_start):
    sandbox.run(RECIPE + LAST)
    slow_start(3)
    twin.run(RECIPE + LAST, processes=2)
    assert twin.artefacts() == sandbox.artefacts()
    assert recorded(twin) == recorded(sandbox)


@pytest.mark.slow
def test_a_chain_that_diverges_in_another_process(sandbox, twin, slow_start, capsys):
    """The same result, message and journal; it is not computed again, or the message would say so."""
    wild = changed(RECIPE, ("steps: 4", "steps: 4, learning_rate: 1.0e+30"))
    plain = sandbox.run(wild)
    capsys.readouterr()
    runs = slow_start(1, until_one_has_ended)
    both = twin.run(wild, processes=2)
    assert runs[0]._ended

    def without_folder(chains: list[dict]) -> list[dict]:
        return [chain | {"message": re.sub(r"/\S+", "PATH", chain["message"])} for chain in chains]

    assert without_folder(both["diverged"]) == without_folder(plain["diverged"])
    assert both["made"] == plain["made"]
    assert twin.artefacts() == sandbox.artefacts()
    assert recorded(twin, "message") == recorded(sandbox, "message")
    said = capsys.readouterr().err
    assert said.count("warning: diverged: ") == len(both["diverged"])
    assert "as before" not in said


@pytest.mark.slow
def test_a_plug_in_that_fails_fails_as_in_one_process(sandbox, twin, slow_start, monkeypatch, capfd):
    """What it prints on stderr is there, whoever calls it; nothing is on stdout."""
    source = PLUGIN.replace('print("not for stdout")', 'import sys; print("heard", file=sys.stderr)')
    text = changed(RECIPE, ("metrics: [test_loss]", "metrics: [test_loss, {use: 'thirds:Third'}]"))
    (sandbox.root / "thirds.py").write_text(source)
    monkeypatch.syspath_prepend(sandbox.root)
    errors = []
    with pytest.raises(PluginError) as found:
        sandbox.run(text, plugins=True)
    errors.append(str(found.value))
    slow_start(8)
    with pytest.raises(PluginError) as found:
        twin.run(text, plugins=True, processes=2)
    errors.append(str(found.value))
    same, other = (re.sub(r"^.*, generation 1, seed \d", "CELL", error) for error in errors)
    assert same == other, "of several failed cells any may be the first"
    assert "no third" in errors[0]
    assert twin.artefacts() == sandbox.artefacts()
    assert recorded(twin) == recorded(sandbox)
    out, err = capfd.readouterr()
    assert (out, "heard\n" in err) == ("", True)


@pytest.mark.slow
def test_what_a_mirror_has_is_fetched_and_what_it_lacks_is_uploaded_once(sandbox, twin, slow_start, tmp_path_factory):
    url = f"file://{sandbox.root}/mirror"
    slow_start(3)
    made = twin.run(RECIPE, processes=2, mirror=url)
    assert made["mirror"] | {"pushed_bytes": 0} == {
        "fetched": 0, "fetched_bytes": 0, "pushed": made["made"], "pushed_bytes": 0, "failed": 0,
    }  # fmt: skip
    third = Sandbox(tmp_path_factory.mktemp("third"))
    again = third.run(RECIPE, processes=2, mirror=url)
    assert (again["made"], again["mirror"]["pushed"]) == (0, 0)
    assert again["mirror"]["fetched"] == again["reused"] == made["made"]
    assert again["mirror"]["fetched_bytes"] == made["mirror"]["pushed_bytes"]
    assert third.artefacts() == twin.artefacts()


def test_what_it_is_together_with(sandbox):
    with pytest.raises(RecipeError, match="--overlap on: with --on processes scores are made beside fits"):
        sandbox.run(TOY, processes=2, overlap="on")
    assert not (sandbox.root / ".store").exists()


# -- what is counted, without processes ------------------------------------------------------------------------------


class Lines:
    """A connection from which messages are read."""

    def __init__(self) -> None:
        self.messages: list[object] = []

    def poll(self, *_: object) -> bool:
        return bool(self.messages)

    def recv(self) -> object:
        return self.messages.pop(0)


@pytest.fixture
def told(sandbox: Sandbox) -> tuple[SideProcesses, Lines, list[object]]:
    """Other processes of which there is only a connection, and what is shown."""
    from collapse_sim.core.machine import open_device
    from collapse_sim.engine.work import JobContext
    from collapse_sim.store.store import Store

    shown: list[object] = []
    context = JobContext(Store(sandbox.root / ".store"), open_device("cpu"), shown.append, sandbox.root)
    others, lines = SideProcesses(None, 2, context), Lines()
    others._others = [side_processes.SideProcess(2, None, lines)]
    return others, lines, shown


def finished(seeds: tuple[int, ...], *, reused: bool, wall_s: float = 0.0) -> JobFinished:
    return JobFinished("fit", "a", 1, ("replace",), seeds, reused, wall_s)


def test_what_another_process_has_made_counts_as_made_once(told):
    """Even if it is found before the message that it is finished, which is then not shown a second time."""
    others, lines, shown = told
    lines.messages += [JobStarted("fit", "a", 1, ("replace",), (seed,)) for seed in (1, 2)]
    lines.messages += [finished((1,), reused=False, wall_s=2.0)]
    made = side_processes.CountedAsMade(others, others.emit)
    made(finished((0, 1, 2), reused=True))
    assert made.count == 2
    assert shown[2:] == [
        finished((1,), reused=False, wall_s=2.0),
        finished((2,), reused=False, wall_s=2.0),
        finished((0,), reused=True),
    ]
    lines.messages += [finished((2,), reused=False, wall_s=1.0)]
    made(finished((1, 2), reused=True))
    assert made.count == 2
    assert shown[5:] == [finished((1, 2), reused=True)]


def test_what_this_process_makes_after_another_one_began_it_in_vain(told):
    others, lines, shown = told
    lines.messages += [JobStarted("fit", "a", 1, ("replace",), (1,))]
    made = side_processes.CountedAsMade(others, others.emit)
    made(finished((1,), reused=False))
    made(finished((1,), reused=True))
    assert (made.count, shown[1:]) == (0, [finished((1,), reused=False), finished((1,), reused=True)])


def test_a_note_is_shown_once_whoever_tells_it(told):
    others, lines, shown = told
    others.emit(Note("here first"))
    lines.messages += [Note("here first"), Note("there"), Note("there")]
    others.hear()
    assert shown == [Note("here first"), Note("there")]


def test_patience_ends_when_the_others_only_wait(told, sandbox, monkeypatch):
    """For processes that this run has not started: it ends as one process does, and not while they work."""
    others, lines, _ = told
    assert others.working()
    lines.messages += [Waiting("fit", "a", 1)]
    assert not others.working()
    lines.messages += [JobStarted("fit", "a", 1, ("replace",), (1,))]
    assert others.working()


@pytest.mark.slow
def test_a_run_whose_rest_is_under_way_elsewhere_ends_as_one_process_does(sandbox, slow_start, monkeypatch):
    from collapse_sim.plan.experiment import prepare
    from collapse_sim.recipe.loader import load

    monkeypatch.setattr(waiting, "GRACE_S", 1.0)
    experiment = prepare(load(sandbox.recipe(TOY)), sandbox.root / "data")
    (sandbox.root / ".store" / "locks").mkdir(parents=True)
    slow_start(1)
    name = Job(experiment.arm_plans[0].generations[1].fit, (0, 1), ()).lock_name
    with (
        locked(sandbox.root / ".store" / "locks" / f"{name}.lock"),
        pytest.raises(UnderWayElsewhereError, match="1 artefact is under way elsewhere: fit: replace, generation 1"),
    ):
        sandbox.run(TOY, processes=2)


# -- in processes of their own ----------------------------------------------------------------------------------------

LONG = changed(
    VAE, ("steps: 4", "steps: 1500"), ("evaluate: every 2 steps, keep: best", "evaluate: never"),
    ("generations: 2", "generations: 1"), ("seeds: [0]", "seeds: [0, 1]"),
)  # fmt: skip


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "r.yaml").write_text(LONG)
    with commands(tmp_path, "-m", "collapse_sim", "run", "r.yaml", "--device", "cpu") as start:
        yield start


def both_at_work(store: Path, process: subprocess.Popen) -> psutil.Process:
    """Wait until both processes have a checkpoint. Returns the other one."""
    deadline = time.monotonic() + 240
    while len({path.parent.name for path in store.glob("partial/*/step-*.json")}) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    (child,) = psutil.Process(process.pid).children()
    return child


@pytest.mark.slow
def test_ctrl_c_ends_both_with_checkpoints_and_the_same_command_continues(start, tmp_path):
    words = ("--on", "processes:2", "--checkpoint-seconds", "0.05", "--store", "store", "--json")
    first = start(*words)
    child = both_at_work(tmp_path / "store", first)
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=120)
    assert (first.returncode, out) == (130, "")
    assert not child.is_running()
    assert err.count("stopping: taking a checkpoint") == 1
    assert err.count("interrupted; everything finished is kept; to continue: ") == 1
    assert "failed" not in err
    assert len({path.parent.name for path in (tmp_path / "store").glob("partial/*/step-*.json")}) == 2
    again = start(*words)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    result = json.loads(out)
    assert result["made"] + result["reused"] == len(artefacts(tmp_path / "store"))
    assert not list((tmp_path / "store" / "partial").iterdir())
    alone = start("--on", "here", "--store", "alone", "--out", "alone-run")
    assert alone.wait(300) == 0
    assert artefacts(tmp_path / "store") == artefacts(tmp_path / "alone")


@pytest.mark.slow
def test_a_process_whose_parent_is_killed_takes_a_checkpoint_and_ends(start, tmp_path):
    first = start("--on", "processes:2", "--checkpoint-seconds", "0.05", "--store", "store")
    child = both_at_work(tmp_path / "store", first)
    first.kill()
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running()
    kept = {path.parent.name for path in (tmp_path / "store").glob("partial/*/step-*.json")}
    assert len(kept) == 2
    assert not list((tmp_path / "store" / "locks").glob(f"active-*-{child.pid}.lock*"))
