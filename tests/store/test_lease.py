"""Which processes are active on a store: marks, their locks and their heartbeats."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from collapse_sim.store import lease as leases
from collapse_sim.store.lease import is_near, lease, living, owner_of, token
from collapse_sim.store.process import host
from tests.store.processes import FORK, OTHER, elsewhere


def test_a_lease_tells_who_is_at_work(tmp_path):
    (tmp_path / "locks").mkdir()
    assert living(tmp_path) == {}
    with lease(tmp_path), lease(tmp_path):
        assert living(tmp_path) == {token(): f"process {os.getpid()} on {host()}"}
        receiver, sender = FORK.Pipe(duplex=False)

        def ask() -> None:
            sender.send((token(), list(living(tmp_path))))
            with lease(tmp_path):
                sender.send(list(living(tmp_path)))
                os._exit(1)  # as a kill would end it

        other = FORK.Process(target=ask)
        other.start()
        assert receiver.poll(120)
        (theirs, seen), both = receiver.recv(), receiver.recv()
        other.join()
        assert theirs != token()
        assert seen == [token()]
        assert sorted(both) == sorted([token(), theirs])
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


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        (f"0123456789abcdef-{OTHER}-01234567", OTHER),
        (f"{'a' * 64}-s0@{'b' * 24}", "b" * 24),
        (f"{'a' * 64}-s0", ""),  # a digest alone is no token
        ("c" * 25, ""),
        ("c" * 23 + "g", ""),
        (f"{OTHER}", OTHER),
        ("", ""),
    ],
)
def test_whose_a_file_is_stands_in_its_name(name: str, owner: str) -> None:
    assert owner_of(name) == owner


def test_tokens_are_of_one_process_and_near_where_it_is() -> None:
    assert token() == token()
    assert owner_of(f"x-{token()}") == token()
    assert is_near(token())
    assert not is_near(OTHER)
    assert not is_near("")


@pytest.mark.parametrize(("age_s", "lives"), [(0.0, True), (590.0, True), (610.0, False), (1e6, False)])
def test_a_process_elsewhere_lives_as_long_as_it_is_heard_of(tmp_path: Path, age_s: float, lives: bool) -> None:
    """For ten minutes; its lock cannot be seen from here."""
    (tmp_path / "locks").mkdir()
    elsewhere(tmp_path, age_s)
    assert living(tmp_path) == ({OTHER: f"process {os.getpid()} on {host()}"} if lives else {})


def test_other_files_are_no_marks_and_none_is_changed(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    for name in ("references.lock", f"{'a' * 64}-s0.lock", f"active-{OTHER}.lock", f"active-{OTHER}-host-x.lock"):
        (tmp_path / "locks" / name).touch()
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "locks").iterdir())
    assert living(tmp_path) == {}
    assert sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "locks").iterdir()) == before
    assert living(tmp_path / "no store") == {}


def test_a_process_that_was_taken_for_dead_gets_its_mark_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And holds it: others of this kernel see by the lock that it lives."""
    monkeypatch.setattr(leases, "BEAT_S", 0.01)
    (tmp_path / "locks").mkdir()
    with lease(tmp_path):
        (mark,) = (tmp_path / "locks").iterdir()
        mark.unlink()
        deadline = time.monotonic() + 30
        while not mark.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        receiver, sender = FORK.Pipe(duplex=False)
        while time.monotonic() < deadline:
            other = FORK.Process(target=lambda: sender.send(list(living(tmp_path))))
            other.start()
            assert receiver.poll(60)
            seen = receiver.recv()
            other.join()
            if seen:
                break
        assert seen == [token()]
    assert list((tmp_path / "locks").iterdir()) == []
