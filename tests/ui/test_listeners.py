"""Lines, snapshot and dashboard as listeners of a run: what they say, and that they can't harm it."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.core.events import Note
from collapse_sim.ui.dashboard import Dashboard
from collapse_sim.ui.lines import Lines
from collapse_sim.ui.listeners import listeners
from collapse_sim.ui.state import State
from collapse_sim.ui.ticker import Ticker


def said(timed, capsys, **how):
    state = State()
    lines = Lines(state, **how)
    for now, event in timed:
        state.apply(event, now)
        lines(event)
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_one_line_a_generation(tell, capsys):
    assert said(tell(generations=1), capsys) == (
        "demo: 3 arms, 3 seeds, generations 0 to 1, on cpu (fp32), into runs/demo\n"
        "generation 0/1: test_loss replace 1.500, accumulate 1.500, distill 1.500; made 12, found 0; 16 s\n"
        "warning: a setting has no effect: \\x1b[31mred\\x1b[0m second line\n"
        "generation 1/1: test_loss replace 1.500, accumulate 2.500, distill 3.500; made 36, found 0; 1 min 02 s\n"
        "finished after 1 min 18 s: runs/demo\n"
    )


def test_verbose_adds_a_line_a_job(tell, capsys):
    lines = said(tell(generations=0, seeds=(0, 4), arms=("a", "b")), capsys, verbose=True).splitlines()
    assert lines[1:4] == [
        "  data, all arms: 0.1 s",
        "  fit, generation 0, all arms, seed 0: 4.0 s",
        "  fit, generation 0, all arms, seed 4: 4.0 s",
    ]
    assert len(lines) == 1 + 1 + 2 + 2 + 2 * 2 + 1 + 1  # start, data, fits, samples, scores, generation, end


def test_texts_are_said_only_when_verbose(tell, capsys):
    timed = tell(generations=0, arms=("a", "b"), seeds=(0,), texts=("one\n\x1b[31mtwo", "other"))
    assert "one" not in said(timed, capsys)
    lines = said(timed, capsys, verbose=True).splitlines()
    assert [line for line in lines if "sample," in line] == [
        "  sample, generation 0, a: a 0: one \\x1b[31mtwo",
        "  sample, generation 0, b: b 0: one \\x1b[31mtwo",
    ]


def test_quiet_leaves_warnings(tell, capsys):
    quiet = said([*tell(), (0.0, Note("just so", "info"))], capsys, quiet=True)
    assert quiet == "warning: a setting has no effect: \\x1b[31mred\\x1b[0m second line\n"


@pytest.mark.parametrize("how", [{}, {"quiet": True}, {"verbose": True}])
def test_listeners_leave_the_last_state_in_live_json(tell, capsys, tmp_path, how):
    with listeners(tmp_path, **how) as emit:
        for _, event in tell():
            emit(event)
    live = json.loads((tmp_path / "live.json").read_text())
    assert (live["outcome"], live["pid"], live["name"]) == ("finished", os.getpid(), "demo")
    assert live["memory_bytes"] > 2**20
    assert [path.name for path in tmp_path.iterdir()] == ["live.json"]
    assert "\x1b" not in capsys.readouterr().err


def test_the_snapshot_follows_a_run_that_has_fallen_silent(tell, tmp_path):
    timed = tell()
    with listeners(tmp_path, quiet=True) as emit:
        for _, event in timed[:9]:
            emit(event)  # faster than the snapshot writes
        deadline = time.monotonic() + 10
        while json.loads((tmp_path / "live.json").read_text())["job"] is None and time.monotonic() < deadline:
            time.sleep(0.05)
        live = json.loads((tmp_path / "live.json").read_text())
    assert live["job"]["kind"] == "fit"
    assert live["outcome"] is None


def test_a_reader_never_sees_a_part_of_the_snapshot(tell, tmp_path, monkeypatch):
    monkeypatch.setattr("collapse_sim.ui.snapshot.PERIOD_S", 0.0)
    over, problems, reads = threading.Event(), [], [0]

    def read():
        while not over.is_set():
            try:
                json.loads((tmp_path / "live.json").read_text())
                reads[0] += 1
            except FileNotFoundError:
                pass
            except ValueError as error:
                problems.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    with listeners(tmp_path, quiet=True) as emit:
        for _, event in tell(generations=30):
            emit(event)
    time.sleep(0.05)
    over.set()
    reader.join()
    assert reads[0] > 0
    assert problems == []


def test_a_folder_that_cannot_be_written_to_does_not_stop_the_run(tell, tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with listeners(blocked / "run") as emit:
        for _, event in tell():
            emit(event)
    assert "finished after" in capsys.readouterr().err


def test_an_exception_in_a_listener_is_told_once_and_does_not_stop_the_run(tell, tmp_path, capsys, monkeypatch):
    def broken(self, event):
        raise RuntimeError("broken listener")

    monkeypatch.setattr(Lines, "__call__", broken)
    with listeners(tmp_path) as emit:
        for _, event in tell():
            emit(event)
    assert capsys.readouterr().err.count("broken listener") == 1
    assert json.loads((tmp_path / "live.json").read_text())["outcome"] == "finished"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InterruptedRunError("stopped"), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
        (OSError("disk"), "failed"),
    ],
)
def test_a_run_that_ends_without_a_word_is_noted_as_what_it_was(tell, tmp_path, error, outcome):
    with pytest.raises(type(error)), listeners(tmp_path, quiet=True) as emit:  # noqa: PT012
        emit(tell()[0][1])
        raise error
    live = json.loads((tmp_path / "live.json").read_text())
    assert live["outcome"] == outcome
    assert live["message"] == str(error)


def test_notes_before_the_run_are_said_even_with_a_dashboard_to_come(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("collapse_sim.ui.listeners.is_terminal", lambda: True)
    with listeners(tmp_path) as emit:
        emit(Note("early"))
    assert capsys.readouterr().err == "warning: early\n"


def test_the_ticker_hands_over_an_exception_and_rests_as_long_as_it_is_told():
    errors, calls = [], []

    def tick() -> float:
        calls.append(time.monotonic())
        if len(calls) == 3:
            raise RuntimeError("over")
        return 0.2

    ticker = Ticker(tick, 0.01, errors.append)
    ticker.start()
    deadline = time.monotonic() + 10
    while not errors and time.monotonic() < deadline:
        time.sleep(0.01)
    ticker.stop()
    assert [str(error) for error in errors] == ["over"]
    assert calls[2] - calls[0] >= 0.4


def test_the_dashboard_draws_and_leaves_the_last_frame(tell, reduce, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    timed, errors = tell(), []
    state = reduce(timed[:60])
    dashboard = Dashboard(lambda: state, errors.append)
    dashboard.start()
    state = reduce(timed)
    dashboard.stop()
    assert errors == []
    assert "finished: 121 made" in screen.getvalue()


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from ui.conftest import story
from collapse_sim.ui.listeners import listeners
with listeners(Path({folder!r})) as emit:
    for _, event in story(generations=2):
        emit(event)
        time.sleep(0.005)
    print("to stderr in between", file=sys.stderr)
print("data on stdout")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_the_cursor_comes_back_and_stdout_stays_clean(tmp_path):
    """The real thing in a pseudo-terminal: what it writes to the terminal, and to a pipe."""
    root = Path(__file__).parents[2]
    leader, follower = pty.openpty()
    script = SCRIPT.format(tests=str(root / "tests"), folder=str(tmp_path))
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", "PYTHONPATH": str(root)}
    process = subprocess.Popen(
        [sys.executable, "-c", script], stderr=follower, stdout=subprocess.PIPE, env=env, cwd=tmp_path
    )
    os.close(follower)
    screen = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        screen += part
    os.close(leader)
    assert process.stdout is not None
    out = process.stdout.read()
    process.stdout.close()
    assert process.wait() == 0, screen.decode()
    assert out == b"data on stdout\n"
    text = screen.decode()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # hidden, and shown again
    assert text.rindex("\x1b[?25h") > text.rindex("finished")
    assert "to stderr in between" in text
    assert "\x1b[?1049h" not in text  # what was on the screen before stays
