"""`collapse-sim watch` on made-up run directories."""

from __future__ import annotations

import json
import os
import socket
import threading
import time

import pytest

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.core.events import JobStarted, RunFinished, Scored
from collapse_sim.ui.starting import starting
from tests.ui.live import FIT, call, gone_pid, write_live


def test_watch_once_prints_one_picture_on_stdout(run_folder):
    folder = run_folder(done=1)
    write_live(folder, FIT)
    result = call("watch", folder, "--once")
    assert "fitting · accumulate" in result.stdout
    assert "\x1b" not in result.stdout
    assert result.stderr == ""


def test_watch_tells_generations_until_the_run_is_finished(run_folder, monkeypatch):
    monkeypatch.setattr("collapse_sim.cli.watch_command.POLL_S", 0.05)
    folder = run_folder(done=1)
    write_live(folder, JobStarted("fit", "d", 2, ("replace",), (0,)))
    finished = run_folder(done=2, name="finished")

    def finish():
        time.sleep(0.3)
        (folder / "journal.jsonl").write_bytes((finished / "journal.jsonl").read_bytes())
        scores = [Scored(k, arm, (0, 7), {}) for k in range(3) for arm in ("replace", "accumulate")]
        write_live(folder, *scores, RunFinished("demo", "runs/demo", 3.0, "finished"))

    other = threading.Thread(target=finish)
    other.start()
    result = call("watch", folder)
    other.join()
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == (
        "generation 2/2: fid replace 40.00, accumulate 40.00; made 4, found 0; 3.0 s"
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_watch_says_how_to_continue_when_the_process_is_gone(run_folder, terminal, monkeypatch):
    monkeypatch.setattr("collapse_sim.cli.watch_command.is_terminal", lambda: terminal)
    folder = run_folder(done=1, command=["collapse-sim", "run", "demo"])
    write_live(folder, FIT, pid=gone_pid())
    with pytest.raises(InterruptedRunError, match=r"the run is stopped.*\n  collapse-sim run demo") as stop:
        call("watch", folder)
    assert stop.value.code == 130


def test_ctrl_c_ends_the_watching_with_0(run_folder, monkeypatch):
    folder = run_folder(done=1)
    write_live(folder, FIT)

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    call("watch", folder)


def test_watch_begins_while_the_run_is_starting(run_folder, monkeypatch):
    """starting.json, then live.json; and what a process that went before it began has left is no run."""
    monkeypatch.setattr("collapse_sim.cli.watch_command.POLL_S", 0.05)
    finished = run_folder(done=2, name="finished")
    folder = finished.parent / "new"
    with starting(folder, "new"):
        text = call("watch", folder, "--once").stdout
        assert f"starting: process {os.getpid()} on {socket.gethostname()} reads" in text
        assert json.loads(call("status", folder, "--json").stdout)["status"] == "starting"

        def finish():
            time.sleep(0.3)
            for name in ("run.json", "journal.jsonl"):
                (folder / name).write_bytes((finished / name).read_bytes())
            (folder / "starting.json").unlink()

        other = threading.Thread(target=finish)
        other.start()
        assert "generation 2/2" in call("watch", folder).stderr
        other.join()
    assert sorted(path.name for path in folder.iterdir()) == ["journal.jsonl", "run.json"]
