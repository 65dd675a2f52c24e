"""live.json: it follows the run, a reader never sees a part of it, and no error of its folder stops a run."""

from __future__ import annotations

import json
import threading
import time

from collapse_sim.ui.listeners import listeners


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
