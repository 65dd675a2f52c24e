"""A run directory and what several processes write to it at the same time."""

from __future__ import annotations

import json
import os

from collapse_sim.store import journal, run_writer, sealed
from collapse_sim.store.run_writer import RunWriter
from tests.conftest import SMALL
from tests.store.processes import FORK


def test_run_json_takes_what_every_process_adds(tmp_path):
    """Eight processes claim one folder at the same time, each for an arm of its own: none is lost."""
    gate = FORK.Barrier(8)

    def claim(name: str) -> None:
        folder = RunWriter(tmp_path / "run")
        settings = {"arms": {name: {}}, "seeds": [0], "generations": 1, "metrics": ["m"]}
        content = {
            "name": "x", "generations": 1, "seeds": [0], "arms": [name], "metrics": {"m": {"settings": {}}},
            "theory": {}, "claims": [], "reference": None, "baseline": name, "fingerprint": "f", "settings": settings,
        }  # fmt: skip
        gate.wait()
        folder.claim(content, tmp_path / ".store")
        for k in range(5):
            folder.record_scores(k, name, [0], {"m": [1.0]}, "f", "s", {})

    names = [f"arm{i}" for i in range(8)]
    others = [FORK.Process(target=claim, args=(name,)) for name in names]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert sorted(sealed.read(tmp_path / "run" / "run.json")["arms"]) == names
    lines = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    assert sorted((line["arm"], line["generation"]) for line in lines) == [
        (name, k) for name in names for k in range(5)
    ]
    scores = sealed.read(tmp_path / "run" / "recorded.json")["scores"]
    assert scores == {name: {"m": {"s0": [[0, 4]]}} for name in names}
    assert not (tmp_path / "run" / ".lock").exists()


def test_scratch_of_killed_writers_goes(sandbox):
    sandbox.run(SMALL)
    folders = (sandbox.root / "run", sandbox.root / ".store" / "runs")
    left = [folder / name for folder in folders for name in (".x.json.0.tmp", ".y.json.1.tmp", "mine.tmp")]
    for path in left:
        path.write_text("")
        os.utime(path, (1.0, 1.0) if path.name != ".y.json.1.tmp" else None)
    sandbox.run(SMALL)
    assert [path.exists() for path in left] == [False, True, True] * 2


def test_a_session_has_the_revision_of_its_checkout(tmp_path, monkeypatch):
    writer = RunWriter(tmp_path)
    for known in ("abc-dirty", ""):
        monkeypatch.setattr(run_writer, "revision", lambda known=known: known)
        writer.record_session(["run", "r.yaml"], "cpu", "fp32")
    first, second = journal.read(writer.journal)
    assert first["revision"] == "abc-dirty"
    assert "revision" not in second
    assert first["command"] == second["command"] == ["run", "r.yaml"]
