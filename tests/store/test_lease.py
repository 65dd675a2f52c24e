"""Which processes are active on a store: marks, their locks and their heartbeats."""

from __future__ import annotations

import os
import time

from collapse_sim.store import lease as leases
from collapse_sim.store.lease import lease, living, token
from tests.store.processes import FORK


def test_a_lease_tells_who_is_at_work(tmp_path):
    (tmp_path / "locks").mkdir()
    assert living(tmp_path) == {}
    with lease(tmp_path), lease(tmp_path):
        assert living(tmp_path) == {token(): f"process {os.getpid()} on {leases.host()}"}
        heard, told = FORK.Queue(), FORK.Queue()

        def ask() -> None:
            heard.put((token(), living(tmp_path)))
            with lease(tmp_path):
                told.put(len(living(tmp_path)))
                os._exit(1)  # as a kill would end it

        other = FORK.Process(target=ask)
        other.start()
        theirs, seen = heard.get(timeout=30)
        other.join()
        assert theirs != token()
        assert list(seen) == [token()]
        assert list(living(tmp_path)) == [token()], "the other one is gone, though its mark lies there"
        assert len(list((tmp_path / "locks").iterdir())) == 2
    assert living(tmp_path) == {}


def test_a_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_S", 0.01)
    (tmp_path / "locks").mkdir()
    with lease(tmp_path):
        (mark,) = (tmp_path / "locks").iterdir()
        os.utime(mark, (1.0, 1.0))
        deadline = time.monotonic() + 30
        while mark.stat().st_mtime == 1.0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert mark.stat().st_mtime > 1.0
