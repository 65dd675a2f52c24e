"""live.json: it follows the run, a reader never sees a part of it, and no error of its folder stops a run."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from collapse_sim.store import sealed
from collapse_sim.ui.listeners import listeners
from collapse_sim.ui.snapshot import Snapshot


def never(error: Exception) -> None:
    pytest.fail(f"{type(error).__name__}: {error}")


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


def test_only_news_are_written_and_the_last_state_always(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collapse_sim.ui.snapshot.PERIOD_S", 0.01)
    monkeypatch.setattr("collapse_sim.ui.snapshot.HEARTBEAT_S", 1000.0)
    reads: list[int] = []

    def read() -> dict[str, Any]:
        reads.append(len(reads))
        return {"read": len(reads)}

    snapshot = Snapshot(tmp_path, read, never)
    snapshot.start()
    time.sleep(0.2)
    assert len(reads) == 1  # nothing has happened since
    snapshot.stale = True
    deadline = time.monotonic() + 10
    while len(reads) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(reads) == 2
    snapshot.stop()
    assert sealed.read(tmp_path / "live.json") == {"read": 3}


def test_a_silent_run_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collapse_sim.ui.snapshot.PERIOD_S", 0.01)
    monkeypatch.setattr("collapse_sim.ui.snapshot.HEARTBEAT_S", 0.05)
    snapshot = Snapshot(tmp_path, dict, never)
    snapshot.start()
    first = (tmp_path / "live.json").stat().st_ino
    deadline = time.monotonic() + 10
    while (tmp_path / "live.json").stat().st_ino == first and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (tmp_path / "live.json").stat().st_ino != first
    snapshot.stop()


def test_a_state_that_cannot_be_read_is_told_once_and_a_file_that_cannot_be_written_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collapse_sim.ui.snapshot.PERIOD_S", 0.01)
    (tmp_path / "run" / "live.json" / "x").mkdir(parents=True)
    for folder in (tmp_path / "run", tmp_path / "missing"):
        lost = Snapshot(folder, dict, never)
        lost.start()
        lost.stop()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["live.json"]
    errors: list[Exception] = []

    def broken() -> dict[str, Any]:
        raise ValueError("broken")

    snapshot = Snapshot(tmp_path, broken, errors.append)
    with pytest.raises(ValueError, match="broken"):
        snapshot.write()
    snapshot.stale = True
    snapshot._ticker.start()
    time.sleep(0.2)
    snapshot._ticker.stop()
    assert [str(error) for error in errors] == ["broken"]
