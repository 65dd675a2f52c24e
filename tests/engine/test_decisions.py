"""Decisions of `--compile auto`: the first one stays, in the store and for every process."""

from __future__ import annotations

import pytest

from collapse_sim.core.errors import StoreError
from collapse_sim.engine.decisions import FOLDER, Decisions


@pytest.mark.parametrize("pays", [True, False])
def test_the_first_decision_stays_for_all_processes(tmp_path, pays):
    one, other = Decisions(tmp_path), Decisions(tmp_path)
    assert one.of("a") is other.of("a") is None
    assert one.keep("a", pays=pays) is pays
    assert other.keep("a", pays=not pays) is pays
    assert Decisions(tmp_path).of("a") is pays
    assert other.of("b") is None


def test_without_a_store_they_are_those_of_this_process():
    own = Decisions()
    assert own.keep("a", pays=False) is False
    assert own.keep("a", pays=True) is False
    assert Decisions().of("a") is None


@pytest.mark.parametrize("text", ["", "{}", '{"pays": true}', "[" * 100_000, "[1]"])
def test_a_damaged_record_is_none_and_is_replaced(tmp_path, text):
    Decisions(tmp_path).keep("a", pays=True)
    (tmp_path / FOLDER / "a.json").write_text(text)
    fresh = Decisions(tmp_path)
    assert fresh.of("a") is None
    assert fresh.keep("a", pays=False) is False
    assert Decisions(tmp_path).of("a") is False


def test_a_store_that_cannot_be_written_to_is_a_clear_error(tmp_path):
    (tmp_path / FOLDER).write_text("in the way")
    with pytest.raises(StoreError, match=FOLDER):
        Decisions(tmp_path).keep("a", pays=True)
