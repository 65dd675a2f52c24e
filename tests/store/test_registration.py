"""What runs refer to, and what they no longer refer to."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from collapse_sim.store.registration import Registration, registered, registration_path
from collapse_sim.store.store import Store


def test_a_released_artefact_is_held_no_longer_and_known_as_pruned() -> None:
    own = Registration("run", {"a": [0, 1, 2], "all": []})
    assert own.holds("a", (2, 3))
    assert own.holds("all", (-1,))
    own.release("a", {1, 2, 7})
    own.release("all", {-1})
    own.release("unknown", {0})
    assert own.references == {"a": [0]}
    assert own.pruned == {"a": [1, 2], "all": []}
    assert not own.holds("a", (1,))
    assert not own.holds("all", (-1,))


def test_a_run_that_goes_on_refers_to_everything_again_and_still_knows_what_it_pruned(tmp_path: Path) -> None:
    Store(tmp_path / "store")
    path = registration_path(tmp_path / "store", tmp_path / "run")
    with registered(tmp_path / "store", tmp_path / "run", {"a": [0, 1]}, {"a": ["arm"]}):
        own = Registration.read(path)
        own.release("a", {0})
        own.write(path)
    with registered(tmp_path / "store", tmp_path / "run", {"a": [0, 1]}):
        own = Registration.read(path)
    assert own.references == {"a": [0, 1]}
    assert own.pruned == {"a": [0]}
    assert own.arms == {"a": ["arm"]}


def test_a_damaged_list_is_rewritten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Store(tmp_path / "store")
    path = registration_path(tmp_path / "store", tmp_path / "run")
    path.write_text("{}")
    with caplog.at_level(logging.WARNING), registered(tmp_path / "store", tmp_path / "run", {"a": [0]}):
        assert Registration.read(path).references == {"a": [0]}
    assert "damaged" in caplog.text
