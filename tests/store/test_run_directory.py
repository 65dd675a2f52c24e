"""A run directory as its readers see it: what is found, what is missed, and what is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.store import journal, recorded, sealed
from collapse_sim.store.run_directory import find_run, read_journal
from tests.store.score_lines import line


def test_readers_say_what_a_journal_lacks(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal.append(path, [line(k) for k in range(3)])
    scores: recorded.Scores = {}
    recorded.add(scores, journal.read(path))
    recorded.write(tmp_path, scores)
    assert read_journal(tmp_path) == (journal.read(path), [])
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:1]))
    _, (problem,) = read_journal(tmp_path)
    assert "incomplete, recorded scores are gone: m of a, generations 1-2; running the same commands again" in problem
    path.unlink()
    assert read_journal(tmp_path)[0] == []
    assert "m of a, generations 0-2" in read_journal(tmp_path)[1][0]
    (tmp_path / "recorded.json").write_text("{}")
    assert "recorded.json: damaged (it has no hash of its own): it is not known whether" in read_journal(tmp_path)[1][0]


@pytest.mark.parametrize(
    "scores",
    [{"a": 1}, {"a": {"m": {"s0": [[0, 10**12]]}}}, {"a": {"m": {"s0": [["x", 1]]}}}, {"a": {"m": {"s0": 7}}}, []],
)
def test_a_strange_record_is_damaged(tmp_path, scores):
    (tmp_path / "recorded.json").write_text(sealed.text({"scores": scores}))
    assert "recorded.json: damaged" in read_journal(tmp_path)[1][0]


def test_a_run_is_found_by_its_name_below_runs(run_folder, tmp_path, monkeypatch):
    run_folder(parent=tmp_path / "runs", name="demo")
    monkeypatch.chdir(tmp_path)
    assert find_run("demo") == Path("runs/demo")
    assert find_run(str(tmp_path / "runs" / "demo")) == tmp_path / "runs" / "demo"
    (tmp_path / "demo").mkdir()  # something else of the same name
    assert find_run("demo") == Path("runs/demo")
    with pytest.raises(RecipeError, match=r"dmeo: no run here.*did you mean 'demo'"):
        find_run("dmeo")
    with pytest.raises(RecipeError, match="no run here"):
        find_run(str(tmp_path))
