"""Locks between processes: they exclude each other, leave no file, and say what is in their way."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path

import pytest
from filelock import Timeout

from collapse_sim.core.errors import StoreError
from collapse_sim.store.locks import Lock, sweep
from tests.conftest import SMALL
from tests.odd_files import put
from tests.store.processes import FORK


def test_a_lock_keeps_others_out_and_leaves_no_file(tmp_path):
    """Four processes count up one number, a hundred times each."""
    number, path = tmp_path / "number", tmp_path / "n.lock"
    number.write_text("0")

    def count() -> None:
        for _ in range(100):
            lock = Lock(path)
            lock.acquire()
            number.write_text(str(int(number.read_text()) + 1))
            lock.release()

    others = [FORK.Process(target=count) for _ in range(4)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert number.read_text() == "400"
    assert [found.name for found in tmp_path.iterdir()] == ["number"]


def test_a_held_lock_is_not_swept(tmp_path):
    lock = Lock(tmp_path / "a.lock")
    lock.acquire()
    sweep(lock.path)
    assert lock.path.exists()
    with pytest.raises(Timeout):
        Lock(lock.path).acquire(timeout=0)
    lock.release()
    lock.path.touch()
    sweep(lock.path)
    assert not lock.path.exists()


@pytest.mark.parametrize("kind", ["folder", "socket", "dangling", "loop"])
def test_something_else_in_place_of_a_lock(tmp_path, kind):
    put(kind, tmp_path / "a.lock")
    with pytest.raises(StoreError, match=r"a\.lock: cannot write"):
        Lock(tmp_path / "a.lock").acquire(timeout=0)


@pytest.mark.parametrize("number", ["ENOLCK", "EOPNOTSUPP"])
def test_locks_that_are_refused(sandbox, monkeypatch, number):
    def refuse(handle: int, operation: int) -> None:
        raise OSError(getattr(errno, number), number)

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreError, match=r"the file system refuses locks .* on a local disk, with --store and --out"):
        sandbox.run(SMALL)


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    """Its file is left, but the kernel has released it; whoever comes next takes it and removes the file."""
    path = tmp_path / "a.lock"

    def die() -> None:
        Lock(path).acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    other = FORK.Process(target=die)
    other.start()
    other.join()
    assert other.exitcode == -signal.SIGKILL
    assert path.exists()
    lock = Lock(path)
    lock.acquire(timeout=0)
    lock.release()
    assert not path.exists()
