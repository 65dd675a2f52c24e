"""Several processes of one run, each with a file that shows its state, and what readers make of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from collapse_sim.core.events import JobFinished, OnNode, RunFinished
from collapse_sim.store import sealed
from collapse_sim.store.lease import token
from collapse_sim.ui.live_files import live_states, read_live, write_own
from collapse_sim.ui.run_status import live_status, run_status
from collapse_sim.ui.snapshot import Snapshot
from tests.store.processes import OTHER
from tests.ui.live import FIT, call, gone_pid, write_live


@pytest.fixture
def second() -> Iterator[int]:
    """The id of another process that is alive."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process.pid
    process.kill()
    process.wait()


def move(folder: Path, owner: str) -> Path:
    """Make live.json that of a further process."""
    return (folder / "live.json").rename(folder / f"live-{owner}.json")


def touched(folder: Path) -> str:
    """The name of the file that is this process's."""
    return write_own(folder, lambda path: None).name


def test_the_first_process_has_live_json_and_a_further_one_its_own(run_folder, second):
    folder = run_folder(done=0)
    own = f"live-{token()}.json"
    assert touched(folder) == "live.json", "nobody has it"
    write_live(folder)
    assert touched(folder) == "live.json", "it is this process's own, of an earlier run"
    write_live(folder, pid=second)
    assert touched(folder) == own
    write_live(folder, RunFinished("demo", "runs/demo", 3.0, "finished"), pid=second)
    assert touched(folder) == "live.json", "the other has ended"
    write_live(folder, pid=gone_pid())
    assert touched(folder) == "live.json", "the other is gone"
    (folder / "live.json").write_text("{")
    assert touched(folder) == "live.json", "it is damaged"
    assert not list(folder.glob(".lock*"))


def test_files_of_further_processes_that_are_gone_go(run_folder, second):
    folder = run_folder(done=0)
    for pid, owner in ((gone_pid(), OTHER), (second, "1" * 24), (os.getpid(), token())):
        write_live(folder, pid=pid)
        move(folder, owner)
    (folder / "live-mine.json").write_text("{}")
    touched(folder)
    assert sorted(path.name for path in folder.glob("live*")) == [f"live-{'1' * 24}.json", "live-mine.json"]


def test_status_and_watch_show_what_all_processes_do(run_folder, second):
    """Cells that one has finished, which the journal does not have yet, and a line on what the others are at."""
    folder = run_folder(done=0)
    done = [JobFinished(kind, "d", 1, ("replace",), (0, 7), False, 1.0) for kind in ("fit", "samples")]
    write_live(folder, *done, FIT, pid=second)
    move(folder, OTHER)
    write_live(folder, JobFinished("fit", "e", 1, ("accumulate",), (0, 7), False, 1.0))
    first, further = live_states(folder)
    assert (first.pid, further.pid) == (os.getpid(), second)
    for read in (run_status, live_status):
        status = read(folder)
        assert status.word == "running"
        cells = {arm: status.state.cells[arm][1] for arm in ("replace", "accumulate")}
        assert [bool(cells[arm].fit) for arm in cells] == [True, True]
        assert [bool(cells[arm].samples) for arm in cells] == [True, False]
        (note,) = [note["message"] for note in status.state.notes]
        assert note == f"process {second} on {further.host} is at work, too: fit, generation 2"
    assert f"process {second} on" in call("status", folder).stdout


def test_a_further_process_with_jobs_on_nodes_is_not_idle(run_folder, second):
    folder = run_folder(done=0)
    write_live(folder, OnNode("n1", 1, FIT), pid=second)
    move(folder, OTHER)
    write_live(folder)
    (note,) = [note["message"] for note in run_status(folder).state.notes]
    assert note.endswith("is at work, too: 1 job on its nodes")


def test_a_further_process_alone_is_a_run_that_runs(run_folder, second):
    """The first has been interrupted, and has left its last word."""
    folder = run_folder(done=0)
    write_live(folder, FIT, pid=second)
    move(folder, OTHER)
    write_live(folder, RunFinished("demo", "runs/demo", 3.0, "interrupted"))
    assert json.loads(call("status", folder, "--json").stdout)["status"] == "running"
    assert [state.pid for state in live_states(folder)] == [second]
    (folder / f"live-{OTHER}.json").unlink()
    assert json.loads(call("status", folder, "--json").stdout)["status"] == "interrupted"


def test_what_cannot_be_read_is_as_if_it_were_not_there(run_folder):
    folder = run_folder(done=0)
    (folder / f"live-{OTHER}.json").write_text("{")
    assert live_states(folder) == []
    assert read_live(folder / f"live-{OTHER}.json") is None
    assert run_status(folder).word == "unfinished"


def test_a_further_process_leaves_live_json_to_the_first(run_folder, second):
    """And takes its own file with it; if the first has ended before it, its last word is in live.json."""
    folder = run_folder(done=0)
    own = folder / f"live-{token()}.json"
    write_live(folder, pid=second)
    before = (folder / "live.json").read_bytes()
    snapshot = Snapshot(folder, lambda: {"mine": 1}, lambda error: None)
    snapshot.start()
    assert own.exists()
    snapshot.stop()
    assert not own.exists()
    assert (folder / "live.json").read_bytes() == before
    snapshot = Snapshot(folder, lambda: {"mine": 2}, lambda error: None)
    snapshot.start()
    write_live(folder, RunFinished("demo", "runs/demo", 3.0, "interrupted"), pid=second)
    snapshot.stop()
    assert not own.exists()
    assert sealed.read(folder / "live.json") == {"mine": 2}
