"""Which processes are active on a store, identified by a random token, a lock and a heartbeat.

STORE/locks/active-TOKEN-HOST-PID.lock is held, and touched every BEAT_S, by a process that writes to the store; its
files in tmp/ and partial/ have its token in their names. Host and process id are for display only: containers share
host names, and process ids are not valid in another container. TOKEN begins with a hash of the kernel's boot and the
process namespace. If these are ours, the lock shows at once whether its owner is alive; otherwise only the heartbeat
does: an owner without a heartbeat for GONE_S counts as gone. If its mark was removed for that, and it is back, it gets
another one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path

from collapse_sim.core.errors import StoreError
from collapse_sim.core.files import children
from collapse_sim.store.locks import Lock
from collapse_sim.store.process import host

BEAT_S = 20.0
GONE_S = 600.0
TOKEN = r"[0-9a-f]{24}"
MARK = re.compile(rf"active-({TOKEN})-(.+)-(\d+)\.lock")


def token() -> str:
    """This process's token, part of the names of the files that it leaves in a store."""
    return _token(os.getpid())


@cache
def _token(pid: int) -> str:
    """A new one after a fork."""
    return (_namespace() or secrets.token_hex(4)) + secrets.token_hex(8)


@cache
def _namespace() -> str:
    """Identifies this boot of the kernel and this process namespace; "" where that is not possible."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return hashlib.sha256(f"{boot} {os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:8]  # noqa: PTH115
    except OSError:
        return ""


_held: dict[tuple[int, str], int] = {}  # (process, store) -> nesting depth
_guard = threading.Lock()


@lru_cache(maxsize=64)
def _place(root: Path) -> str:
    """A store's folder without symbolic links: looked up once, since every call of `Store.make_all` asks."""
    return str(root.resolve())


@contextlib.contextmanager
def lease(root: Path) -> Iterator[None]:
    """Mark this process as active on a store; nested calls of one process on the same store have no further effect."""
    key = (os.getpid(), _place(root.absolute()))
    with _guard:
        outermost = not _held.get(key)
        _held[key] = _held.get(key, 0) + 1
    try:
        with _beating(root) if outermost else contextlib.nullcontext():
            yield
    finally:
        with _guard:
            _held[key] -= 1


@contextlib.contextmanager
def _beating(root: Path) -> Iterator[None]:
    mark = root / "locks" / f"active-{token()}-{host()}-{os.getpid()}.lock"
    lock = Lock(mark)
    lock.acquire()
    over = threading.Event()

    def beat() -> None:
        again = Lock(mark)
        while not over.wait(BEAT_S):
            with contextlib.suppress(OSError, StoreError):
                try:
                    os.utime(mark)
                except FileNotFoundError:  # another machine took this process for dead
                    again.release()
                    again.acquire(timeout=0)
        again.release()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        lock.release()


def living(root: Path, now: Callable[[], float] | None = None) -> dict[str, str]:
    """Tokens of the processes that are active on a store, each with a description for display. Changes nothing.

    `now`: by the clock of the file system (core/files.py), if anything is removed because of the answer; else ours.

    Call it after listing the files that they may own: an owner has its mark before it creates any file. Raises what
    `now` does.
    """
    descriptions = {}
    for path in children(root / "locks"):
        match = MARK.fullmatch(path.name)
        if match and _lives(path, match[1], now or time.time):
            descriptions[match[1]] = f"process {match[3]} on {match[2]}"
    return descriptions


def is_near(owner: str) -> bool:
    """Whether a token is of this kernel and process namespace, so that its lock shows for certain whether it lives."""
    return _namespace() != "" and owner.startswith(_namespace())


def _lives(mark: Path, owner: str, now: Callable[[], float]) -> bool:
    if owner == token():
        return True
    try:
        if is_near(owner):
            handle = os.open(mark, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two checks do not mislead each other
            except BlockingIOError:
                return True
            else:
                return False
            finally:
                os.close(handle)
    except FileNotFoundError:
        return False
    except OSError:
        pass  # locks are not supported or not permitted: the heartbeat decides
    try:
        changed = mark.stat().st_mtime
    except OSError:
        return False
    return now() - changed < GONE_S


def owner_of(name: str) -> str:
    """The token within a file's name; "" when there is none."""
    match = re.search(rf"(?<![0-9a-f]){TOKEN}(?![0-9a-f])", name)
    return match[0] if match else ""
