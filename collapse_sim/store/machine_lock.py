"""Locks between machines that share a file system, whether or not they see each other's flock.

PATH is locked first (store/locks.py), so that the processes of one kernel queue there; then PATH.held is created, which
fails while another has it. It contains its owner: the token (store/lease.py), process id and start. It is touched every
BEAT_S while it is held, and removed on release. If the owner is of our kernel and process namespace and has ended, the
lock is taken over at once; otherwise when the file has not changed for EXPIRED_S by our own monotonic clock, so that
clocks of machines are never compared. An owner that was stopped, or cut off from the file system, may then come back:
two hold the lock, so it must protect nothing but work that may be done twice.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import Timeout

from collapse_sim.core.errors import StoreError
from collapse_sim.core.files import explain_write_errors, remove, require_file
from collapse_sim.store.lease import GONE_S, is_near, token
from collapse_sim.store.locks import POLL_S, Lock
from collapse_sim.store.process import started

BEAT_S = 10.0
EXPIRED_S = 60.0
HELD = ".held"


class Holder(NamedTuple):
    """What a PATH.held says; equal as long as its owner gives no sign of life."""

    owner: str  # token of the process, its id and its start, a random word of this acquisition, and when it was
    inode: int
    changed_ns: int

    @property
    def token(self) -> str:
        return self._word(0)

    @property
    def process(self) -> str:
        """Its id, for display: it may be of another machine or container."""
        return self._word(1) or "of unknown id"

    @property
    def since(self) -> float | None:
        """When the lock was acquired, by the clock of its machine; None where that is not known."""
        return float(self._word(4)) if self._word(4).isdigit() else None

    def _word(self, number: int) -> str:
        words = self.owner.split()
        return words[number] if number < len(words) else ""

    def has_ended(self) -> bool:
        """Whether it is known that the process has ended: it was of this kernel and process namespace."""
        pid = self._word(1)
        return is_near(self.owner) and pid.isdigit() and started(int(pid)) != self._word(2)


class MachineLock:
    """An exclusive lock on a path, between processes on any machines. Raises StoreError as `Lock` does."""

    def __init__(self, path: Path, option: str = "--store") -> None:
        self.path = path
        self._held = path.with_name(path.name + HELD)
        self._option = option
        self._lock = Lock(path, option)
        self._owner, self._handle = "", -1
        self._seen: Holder | None = None  # who else has it, and since when, by our clock, nothing has changed
        self._since = 0.0

    def acquire(self, timeout: float = -1) -> None:
        """Wait for the lock. Raises filelock.Timeout after `timeout` seconds (never, if negative)."""
        end = math.inf if timeout < 0 else time.monotonic() + timeout
        self._lock.acquire(timeout)
        try:
            with explain_write_errors(self._held, self._option):
                while not self._create():
                    self._wait(end)
        except BaseException:
            self._lock.release()
            raise
        _heart.add(self._handle)

    def release(self) -> None:
        """Give the lock up; one that another machine has taken over stays."""
        _heart.discard(self._handle)
        os.close(self._handle)
        with contextlib.suppress(OSError):
            if self.is_ours():
                self._held.unlink()
        self._lock.release()

    def is_ours(self) -> bool:
        """Whether no other machine has taken the lock over since it was acquired."""
        holder = _holder(self._held)
        return holder is not None and holder.owner == self._owner

    def holder(self) -> Holder | None:
        """Who has it, on whichever machine; None if nobody has."""
        with contextlib.suppress(OSError):
            return _holder(self._held)
        return None

    def _create(self) -> bool:
        owner = f"{token()} {os.getpid()} {started(os.getpid())} {secrets.token_hex(8)} {int(time.time())}"
        try:
            handle = os.open(self._held, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            return False
        try:
            os.write(handle, owner.encode())
        except BaseException:
            os.close(handle)
            remove(self._held)
            raise
        self._owner, self._handle = owner, handle
        return True

    def _wait(self, end: float) -> None:
        """Wait a little for the other holder, or set its file aside. Raises Timeout at `end`."""
        holder, now = _holder(self._held), time.monotonic()
        if holder is None:
            return
        if holder != self._seen:
            self._seen, self._since = holder, now
        if holder.has_ended() or now - self._since > EXPIRED_S:
            self._set_aside(holder)
        elif now >= end:
            raise Timeout(str(self._held))
        else:
            time.sleep(min(POLL_S, end - now))

    def _set_aside(self, holder: Holder) -> None:
        aside = self._held.with_name(f".{self._held.name}.{secrets.token_hex(4)}.tmp")
        try:
            self._held.rename(aside)
        except FileNotFoundError:
            return
        if _holder(aside) != holder:  # a third machine has just done this, or the owner is back
            with contextlib.suppress(OSError):
                os.link(aside, self._held)
        remove(aside)


@contextlib.contextmanager
def locked(path: Path, option: str = "--store") -> Iterator[MachineLock]:
    """Hold the lock on a path, after waiting for it without a time limit."""
    lock = MachineLock(path, option)
    lock.acquire()
    try:
        yield lock
    finally:
        lock.release()


def sweep_lock(path: Path, now: Callable[[], float]) -> None:
    """Remove the files of a lock that nobody holds; those of another machine when they are GONE_S old.

    `now`: by the clock of the file system.
    """
    lock = MachineLock(path)
    with contextlib.suppress(Timeout, StoreError, OSError):
        lock.acquire(timeout=0)
        lock.release()
        return
    held = path.with_name(path.name + HELD)
    with contextlib.suppress(OSError):
        if now() - held.lstat().st_mtime > GONE_S:
            held.unlink()


def _holder(path: Path) -> Holder | None:
    """None: there is no file. It is opened, since network file systems answer `stat` from memory."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        facts = os.fstat(handle)
        require_file(path, facts.st_mode)
        return Holder(os.read(handle, 200).decode(errors="replace"), facts.st_ino, facts.st_mtime_ns)
    finally:
        os.close(handle)


class _Heart:
    """Touches the files of all locks that this process holds, by one thread, which begins with the first of them."""

    def __init__(self) -> None:
        self._handles: set[int] = set()
        self._guard = threading.Lock()
        self._started = False

    def add(self, handle: int) -> None:
        with self._guard:
            self._handles.add(handle)
            if not self._started:
                threading.Thread(target=self._beat, name="locks", daemon=True).start()
                self._started = True

    def discard(self, handle: int) -> None:
        with self._guard:
            self._handles.discard(handle)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_S)
            with self._guard:
                for handle in self._handles:
                    with contextlib.suppress(OSError):
                        os.utime(handle)


_heart = _Heart()


def _forked() -> None:
    """A child process holds none of its parent's locks, and has none of its threads."""
    global _heart
    _heart = _Heart()


os.register_at_fork(after_in_child=_forked)
