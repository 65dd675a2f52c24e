"""Locks between processes. A lock's file is removed when the lock is released, so that none is left behind."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from collapse_sim.core.errors import StoreError
from collapse_sim.core.files import explain_write_errors

REFUSED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
POLL_S = 0.05


class Lock:
    """An exclusive lock on a path, between the processes of one kernel, in whichever containers they are.

    Machines that share a file system may or may not see each other's locks; if two hold the same lock, work is done
    twice, without further harm. Raises StoreError when the file system refuses locks.
    """

    def __init__(self, path: Path, option: str = "--store") -> None:
        self.path = path
        self._option = option
        self._lock = FileLock(path)

    def acquire(self, timeout: float = -1) -> None:
        """Wait for the lock. Raises filelock.Timeout after `timeout` seconds (never, if negative)."""
        try:
            with explain_write_errors(self.path, self._option):
                self._lock.acquire(timeout=timeout, poll_interval=POLL_S)
        except FileNotFoundError as error:
            raise StoreError(f"{self.path}: cannot write: the folder is gone; run the same command again") from error
        except OSError as error:
            if isinstance(error, Timeout) or error.errno not in REFUSED:
                raise
            raise StoreError(
                f"{self.path}: the file system refuses locks ({error.strerror}); keep the store and the run directory "
                "on a local disk, with --store and --out"
            ) from error

    def release(self) -> None:
        """Remove the file and release the lock, in this order.

        A process that opened the file before sees, once it has the lock, that the file no longer has a name, and tries
        again (filelock does that).
        """
        if not isinstance(self._lock, SoftFileLock):  # it removes its file itself
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._lock.release()


def sweep(path: Path) -> None:
    """Remove the file of a lock that nobody holds."""
    lock = Lock(path)
    with contextlib.suppress(Timeout, StoreError, OSError):
        lock.acquire(timeout=0)
        lock.release()
