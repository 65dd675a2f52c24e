"""What a process does while all that it could begin is being made by others: it waits, or it ends and says so.

Waiting costs little: the others' locks are asked for a few at a time, and more and more seldom, so that about SHARE of
the time waited is lost when one comes free. On a slow file system the pauses are longer, so that asking takes no more
than SHARE of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from filelock import Timeout

from collapse_sim.core.errors import UnderWayElsewhereError
from collapse_sim.core.events import Emit, Note, Waiting
from collapse_sim.store.blocks import present
from collapse_sim.store.jobs import Job, where
from collapse_sim.store.lease import living
from collapse_sim.store.machine_lock import EXPIRED_S, MachineLock
from collapse_sim.store.process import environment

GRACE_S = 2 * EXPIRED_S  # longer than it takes until the lock of a machine that is gone can be taken over
SHORTEST_S, LONGEST_S, SHARE = 0.05, 10.0, 0.05  # between two rounds of asking
SLICE_S = 0.1  # so soon a wish to stop is heard
POLLED = 8  # locks that are asked for in one round
SHOWN = 5  # artefacts in messages
Meanwhile = Callable[[], bool]  # other work; returns whether there was any
NO_WORK: Meanwhile = lambda: False  # noqa: E731


@dataclass(frozen=True)
class Patience:
    """How long a process waits for others when it has nothing to do. `rest` is called when it begins to wait.

    `working`: whether something that it has begun goes on elsewhere. As long as it does, patience does not end.
    """

    forever: bool = True
    grace_s: float = field(default_factory=lambda: GRACE_S)
    rest: Callable[[], None] = lambda: None
    working: Callable[[], bool] = lambda: False


class Refused(NamedTuple):
    """A job whose lock another process had when it was last asked for."""

    job: Job
    lock: MachineLock  # which remembers how long its holder has given no sign of life


class Others:
    """What other processes of a store are making or have made, as far as this one has wanted it, too."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._refused: dict[str, Refused] = {}
        self._versions = {environment()["collapse-sim"]}

    def met(self, manifest: Mapping[str, Any], emit: Emit | None) -> None:
        """Say once that an artefact which is used was made by another version of this program."""
        version = (manifest.get("environment") or {}).get("collapse-sim")
        if emit is None or version is None or version in self._versions:
            return
        self._versions.add(version)
        own = environment()["collapse-sim"]
        emit(
            Note(
                f"the store has artefacts that collapse-sim {version} has made, and this is {own}: they are used, as "
                "their settings and versions of methods are equal; to make all with one version, choose another --store"
            )
        )

    def lock(self, job: Job, emit: Emit) -> MachineLock | None:
        """The job's lock, acquired; None if another process has it."""
        spec, name = job.spec, job.lock_name
        known = self._refused.get(name)
        lock = known.lock if known else MachineLock(self._root / "locks" / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if known is None:
                emit(Waiting(spec.kind, spec.digest, spec.generation))
            self._refused[name] = Refused(job, lock)
            return None
        self._refused.pop(name, None)
        return lock

    def had(self, job: Job) -> bool:
        """Whether another process had the job's lock when it was last asked for."""
        return job.lock_name in self._refused

    def under_way(self) -> list[str]:
        """What they are making now: "fit: replace, generation 3, seed 1, by process 12 on node7 since ..."."""
        names, lines = living(self._root), []
        for job, lock in self._refused.values():
            absent = set(job.seeds or (-1,)) - present(self._root, job.spec.digest)
            holder = lock.holder() if absent else None
            if holder is not None:
                by = names.get(holder.token, f"process {holder.process}")
                lines.append(f"{_named(job)}, by {by}{_since(holder.since)}")
        return lines


class Idle:
    """One stretch of waiting within a call of `Store.make_all`. `over`: there was something to do."""

    def __init__(self, patience: Patience, others: Others, check_stop: Callable[[], None], emit: Emit) -> None:
        self._patience, self._others, self._check_stop, self._emit = patience, others, check_stop, emit
        self._since: float | None = None
        self._worked = 0.0  # when something was last seen to go on
        self._asking_since = time.monotonic()
        self._announced = False

    def over(self) -> None:
        self._since, self._asking_since = None, time.monotonic()

    def pause(self, awaited: Job) -> None:
        """Wait a little. Raises UnderWayElsewhereError when patience is over, and what `check_stop` does."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._patience.rest()
            self._emit(Waiting(awaited.spec.kind, awaited.spec.digest, awaited.spec.generation))
        idle_s = now - self._since
        if self._patience.working():
            self._worked = now
        left_s = self._patience.grace_s - (now - max(self._since, self._worked))
        if left_s <= 0 and not self._announced:
            lines = self._others.under_way()
            if not self._patience.forever:
                raise UnderWayElsewhereError(described(lines, idle_s))
            self._announced = True
            self._emit(Note(described(lines, idle_s), "info"))
        pause_s = max(min(max(SHORTEST_S, SHARE * idle_s), LONGEST_S), (now - self._asking_since) / SHARE)
        end = now + (min(pause_s, left_s) if left_s > 0 else pause_s)
        while (rest_s := end - time.monotonic()) > 0:
            self._check_stop()
            time.sleep(min(SLICE_S, rest_s))
        self._asking_since = time.monotonic()


def described(lines: Sequence[str], idle_s: float) -> str:
    """The message: what is under way elsewhere, if that is still known."""
    if not lines:
        return f"nothing to begin for {idle_s:.0f} s: other processes are making what comes next"
    count = f"{len(lines)} artefact" + ("s are" if len(lines) > 1 else " is")
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return f"nothing to begin for {idle_s:.0f} s: {count} under way elsewhere: {'; '.join([*lines[:SHOWN], *more])}"


def _named(job: Job) -> str:
    if job.spec.generation < 0:
        return job.spec.kind
    few = job.arms if len(job.arms) <= 3 else (*job.arms[:3], "...")
    return f"{job.spec.kind}: {where(Job(job.spec, job.seeds, few), job.seeds)}"


def _since(seconds: float | None) -> str:
    """By the clock of the machine that has the lock."""
    return "" if seconds is None else time.strftime(" since %Y-%m-%d %H:%M:%S", time.localtime(seconds))
