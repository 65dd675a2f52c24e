"""The dashboard on a terminal: it draws, leaves the last frame, and gives the cursor back."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from collapse_sim.ui.dashboard import Dashboard

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
