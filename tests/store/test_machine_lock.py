"""Locks between machines, which are processes here that do not see each other's flock."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from filelock import Timeout

from collapse_sim.core.errors import StoreError
from collapse_sim.store import machine_lock
from collapse_sim.store.lease import token
from collapse_sim.store.machine_lock import MachineLock, _holder, locked, sweep_lock
from tests.odd_files import put
from tests.store.processes import FORK, OTHER, become_machine


def held(path: Path) -> Path:
    return path.with_name(path.name + ".held")


def test_machines_keep_each_other_out_and_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of them count up one number, 25 times each; a pause between reading and writing invites them in."""
    monkeypatch.setattr(machine_lock, "POLL_S", 0.001)
    number, path = tmp_path / "number", tmp_path / "n.lock"
    number.write_text("0")

    def count(name: str) -> None:
        become_machine(name)
        for _ in range(25):
            with locked(path):
                before = int(number.read_text())
                time.sleep(0.001)
                number.write_text(str(before + 1))

    others = [FORK.Process(target=count, args=(digit * 8,)) for digit in "abcd"]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert number.read_text() == "100"
    assert [path.name for path in tmp_path.iterdir()] == ["number"]


def test_the_lock_of_a_killed_process_of_this_kernel_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"

    def die() -> None:
        MachineLock(path).acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    other = FORK.Process(target=die)
    other.start()
    other.join()
    assert held(path).exists()
    lock = MachineLock(path)
    lock.acquire(timeout=0)
    lock.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("clock_s", [-1e6, 0.0, 1e6])
def test_the_lock_of_a_dead_machine_expires_whatever_its_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock_s: float
) -> None:
    monkeypatch.setattr(machine_lock, "EXPIRED_S", 0.3)
    path = tmp_path / "a.lock"
    held(path).write_text(f"{OTHER} word")
    os.utime(held(path), (time.time() + clock_s, time.time() + clock_s))
    with pytest.raises(Timeout):
        MachineLock(path).acquire(timeout=0)
    assert not path.exists(), "the lock on this machine is not kept meanwhile"
    started, lock = time.monotonic(), MachineLock(path)
    lock.acquire(timeout=60)
    assert time.monotonic() - started > 0.3
    assert lock.is_ours()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_waiting_in_parts_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store waits a second at a time, so that it hears a wish to stop."""
    monkeypatch.setattr(machine_lock, "EXPIRED_S", 0.3)
    path = tmp_path / "a.lock"
    held(path).write_text(f"{OTHER} word")
    lock, parts = MachineLock(path), 0
    while not held(path).exists() or OTHER in held(path).read_text():
        parts += 1
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0.05)
    assert parts > 1
    lock.release()


def test_a_lock_is_kept_for_as_long_as_its_holder_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_lock, "EXPIRED_S", 1.0)
    monkeypatch.setattr(machine_lock, "BEAT_S", 0.05)
    path, begun, end = tmp_path / "a.lock", FORK.Event(), FORK.Event()

    def hold() -> None:
        become_machine("a" * 8)
        with locked(path):
            begun.set()
            end.wait(60)

    other = FORK.Process(target=hold)
    other.start()
    assert begun.wait(60)
    with pytest.raises(Timeout):
        MachineLock(path).acquire(timeout=2.5)
    end.set()
    other.join()
    with locked(path) as lock:
        assert lock.is_ours()


def test_one_that_was_stopped_too_long_has_lost_its_lock_and_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_lock, "EXPIRED_S", 0.5)
    monkeypatch.setattr(machine_lock, "BEAT_S", 0.05)
    path, (receiver, sender) = tmp_path / "a.lock", FORK.Pipe(duplex=False)

    def hold() -> None:
        become_machine("a" * 8)
        with locked(path) as lock:
            sender.send(lock.is_ours())
            os.kill(os.getpid(), signal.SIGSTOP)
            sender.send(lock.is_ours())

    other = FORK.Process(target=hold)
    other.start()
    assert receiver.poll(60)
    assert receiver.recv()
    with locked(path) as lock:
        os.kill(other.pid, signal.SIGCONT)
        assert receiver.poll(60)
        assert not receiver.recv()
        other.join()
        assert other.exitcode == 0
        assert lock.is_ours(), "what it no longer had it did not release"
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_is_back_gets_its_file_back(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    held(path).write_text(f"{OTHER} word")
    judged = _holder(held(path))
    assert judged is not None
    os.utime(held(path), (1.0, 1.0))
    MachineLock(path)._set_aside(judged)
    assert [file.name for file in tmp_path.iterdir()] == ["a.lock.held"]
    judged = _holder(held(path))
    assert judged is not None
    MachineLock(path)._set_aside(judged)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_released_whatever_ends_the_block(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with contextlib.suppress(KeyboardInterrupt), locked(path):
        with pytest.raises(Timeout):
            MachineLock(path).acquire(timeout=0)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with locked(path):
        assert path.exists()
        assert held(path).read_text().startswith(token())


@pytest.mark.parametrize("kind", ["folder", "socket", "dangling", "loop"])
def test_something_else_in_place_of_the_file(tmp_path: Path, kind: str) -> None:
    put(kind, tmp_path / "a.lock.held")
    with pytest.raises(StoreError, match=r"a\.lock\.held: cannot write"):
        MachineLock(tmp_path / "a.lock").acquire(timeout=0)
    assert not (tmp_path / "a.lock").exists()


@pytest.mark.parametrize(
    ("owner", "age_s", "goes"),
    [(token(), 0.0, True), (OTHER, 590.0, False), (OTHER, 610.0, True)],
    ids=["this process", "another, young", "another, old"],
)
def test_a_lock_that_nobody_holds_is_swept(tmp_path: Path, owner: str, age_s: float, goes: bool) -> None:
    path = tmp_path / "a.lock"
    held(path).write_text(f"{owner} 99999999 1 word")
    changed = held(path).stat().st_mtime
    sweep_lock(path, lambda: changed + age_s)
    assert list(tmp_path.iterdir()) == ([] if goes else [held(path)])


def test_a_held_lock_is_not_swept(tmp_path: Path) -> None:
    with locked(tmp_path / "a.lock") as lock:
        sweep_lock(lock.path, time.time)
        assert lock.is_ours()
        assert lock.path.exists()


@pytest.mark.parametrize(
    "owner", ["", token(), f"{token()} x y z", "\n"], ids=["none", "no host", "no number", "a line"]
)
def test_an_unclear_owner_is_waited_for(tmp_path: Path, owner: str) -> None:
    """It may be about to write who it is."""
    held(tmp_path / "a.lock").write_text(owner)
    with pytest.raises(Timeout):
        MachineLock(tmp_path / "a.lock").acquire(timeout=0.1)


def test_one_kernel_keeps_its_processes_apart_though_another_machine_removes_their_lock(tmp_path: Path) -> None:
    """As a machine does that tries in vain: it has locked the same file, and removes it."""
    path = tmp_path / "a.lock"
    with locked(path) as lock:
        path.unlink()
        with pytest.raises(Timeout):
            MachineLock(path).acquire(timeout=0.1)
        assert lock.is_ours()
    assert list(tmp_path.iterdir()) == []
