"""Listeners of a run: what they leave in live.json, and that they cannot harm the run."""

from __future__ import annotations

import json
import os

import pytest

from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.core.events import Note
from collapse_sim.ui.lines import Lines
from collapse_sim.ui.listeners import listeners


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
