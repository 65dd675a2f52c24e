"""A run directory and what several processes write to it at the same time."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from multiprocessing.synchronize import Barrier
from pathlib import Path

from collapse_sim.store import journal, run_writer, sealed
from collapse_sim.store.machine_lock import MachineLock
from collapse_sim.store.run_directory import read_journal, read_run, recipe_of
from collapse_sim.store.run_writer import RunWriter
from tests.conftest import SMALL, Sandbox
from tests.store.processes import FORK, become_machine


def test_run_json_takes_what_every_process_adds(tmp_path):
    """Eight processes claim one folder at the same time, each for an arm of its own: none is lost."""
    gate = FORK.Barrier(8)

    def claim(name: str) -> None:
        folder = RunWriter(tmp_path / "run")
        gate.wait()
        folder.claim(part(name), tmp_path / ".store")
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
    assert not list((tmp_path / "run").glob(".*")), "no lock is left"


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


def part(name: str) -> dict:
    """The content of run.json of a run with one arm."""
    settings = {"arms": {name: {}}, "seeds": [0], "generations": 1, "metrics": ["m"]}
    return {
        "name": "x", "generations": 1, "seeds": [0], "arms": [name], "metrics": {"m": {"settings": {}}},
        "theory": {}, "claims": [], "reference": None, "baseline": name, "fingerprint": "f", "settings": settings,
    }  # fmt: skip


def meet_before_writing(barrier: Barrier) -> None:
    """Hold each write of run.json until another process is about to write its own, or for a second."""
    write = run_writer.write_atomic

    def late(path: Path, content: str | bytes) -> None:
        if path.name == "run.json":
            with contextlib.suppress(threading.BrokenBarrierError):
                barrier.wait(1.0)
        write(path, content)

    run_writer.write_atomic = late


def test_two_machines_that_claim_one_folder_at_once_are_both_in_it(tmp_path):
    """They do not see each other's flock. Without a lock between them, both read before either writes."""
    barrier = FORK.Barrier(2)

    def claim(name: str, machine: str) -> None:
        become_machine(machine * 8)
        meet_before_writing(barrier)
        writer = RunWriter(tmp_path / "run")
        writer.claim(part(name), tmp_path / ".store")
        for k in range(20):
            writer.record_scores(k, name, [0], {"m": [1.0]}, "f", "s", {})

    others = [FORK.Process(target=claim, args=pair) for pair in (("one", "a"), ("two", "b"))]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0]
    run = sealed.read(tmp_path / "run" / "run.json")
    assert sorted(run["arms"]) == sorted(run["settings"]["arms"]) == ["one", "two"]
    lines, problems = read_journal(tmp_path / "run")
    assert problems == []
    recorded = sorted((line["arm"], line["generation"]) for line in lines)
    assert recorded == [(name, k) for name in ("one", "two") for k in range(20)]
    scores = sealed.read(tmp_path / "run" / "recorded.json")["scores"]
    assert scores == {name: {"m": {"s0": [[0, 19]]}} for name in ("one", "two")}
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "journal.jsonl", "pictures", "recipe.yaml", "recorded.json", "run.json",
    ]  # fmt: skip


def test_two_machines_that_run_one_arm_each_end_in_the_whole_run(tmp_path):
    """`run --arm A` and `run --arm B` with one --out and one store: run.json, the journal and all artefacts."""
    whole, both, barrier = Sandbox(tmp_path / "whole"), Sandbox(tmp_path / "both"), FORK.Barrier(2)
    for sandbox in (whole, both):
        sandbox.root.mkdir()
        sandbox.recipe(SMALL)
    whole.run(SMALL)

    def run(arm: str, machine: str) -> None:
        become_machine(machine * 8)
        meet_before_writing(barrier)
        both.run(both.root / "recipe.yaml", arms=(arm,))

    others = [FORK.Process(target=run, args=pair) for pair in (("replace", "a"), ("accumulate+distill", "b"))]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0]
    assert both.artefacts() == whole.artefacts()
    assert sorted(read_run(both.root / "run")["arms"]) == sorted(read_run(whole.root / "run")["arms"])
    lines, problems = read_journal(both.root / "run")
    assert problems == []
    assert journal.scores_of(lines) == journal.scores_of(read_journal(whole.root / "run")[0])
    assert [list((both.root / ".store" / room).iterdir()) for room in ("tmp", "partial", "locks")] == [[], [], []]


def test_a_part_that_a_late_writer_dropped_is_put_back(tmp_path):
    """It was stopped between reading and writing, for longer than its lock lasts."""
    writer, late = RunWriter(tmp_path / "run"), RunWriter(tmp_path / "late")
    writer.claim(part("one"), tmp_path / ".store")
    late.claim(part("two"), tmp_path / ".store")
    (tmp_path / "late" / "run.json").replace(tmp_path / "run" / "run.json")
    writer.record_scores(0, "one", [0], {"m": [1.0]}, "f", "s", {})
    run = read_run(tmp_path / "run")
    assert run["arms"] == ["two", "one"]
    assert recipe_of(tmp_path / "run").read_bytes().count(b"one") == 1
    version = (tmp_path / "run" / "run.json").stat().st_ino
    writer.record_scores(1, "one", [0], {"m": [1.0]}, "f", "s", {})
    assert (tmp_path / "run" / "run.json").stat().st_ino == version, "nothing is missing, so nothing is written"


def test_a_lock_that_was_lost_while_reading_is_taken_again(tmp_path, monkeypatch):
    writer, other = RunWriter(tmp_path / "run"), RunWriter(tmp_path / "other")
    other.claim(part("two"), tmp_path / ".store")
    lost = []

    def is_ours(lock: MachineLock) -> bool:
        if lock.path.parent == tmp_path / "run" and not lost:
            lost.append(lock)
            (tmp_path / "other" / "run.json").replace(tmp_path / "run" / "run.json")  # while this process was stopped
            return False
        return True

    monkeypatch.setattr(MachineLock, "is_ours", is_ours)
    writer.claim(part("one"), tmp_path / ".store")
    assert lost
    assert read_run(tmp_path / "run")["arms"] == ["two", "one"]


def test_a_damaged_or_lost_run_json_does_not_end_a_run(tmp_path):
    writer = RunWriter(tmp_path / "run")
    writer.claim(part("one"), tmp_path / ".store")
    for k, spoil in enumerate((lambda path: path.write_text("{}"), Path.unlink)):
        spoil(tmp_path / "run" / "run.json")
        writer.record_scores(k, "one", [0], {"m": [1.0]}, "f", "s", {})
    assert len(journal.read(writer.journal)) == 2
