"""Other processes on a store: of this machine, and of others that were heard of some time ago."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import time
from pathlib import Path

from collapse_sim.store import lease
from collapse_sim.store.process import host

FORK = multiprocessing.get_context("fork")
OTHER = "0" * 24  # a token of another kernel


def elsewhere(root: Path, age_s: float) -> None:
    """A mark of a process on another machine, or in another container, that was heard of so long ago.

    Its host and process id are ours: containers share both.
    """
    mark = root / "locks" / f"active-{OTHER}-{host()}-{os.getpid()}.lock"
    mark.touch()
    os.utime(mark, (time.time() - age_s, time.time() - age_s))


def become_machine(name: str) -> None:
    """Make this process, a child of the tests', one of another machine, which does not see the flocks of others.

    `name`: eight hexadecimal digits.
    """
    fcntl.flock = lambda handle, operation: None  # type: ignore[assignment]
    lease._namespace = lambda: name  # type: ignore[assignment]
