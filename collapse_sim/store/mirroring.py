"""A mirror of a store on an object store: what is missing is fetched from it, and what is there is uploaded to it.

Uploads run in the background, so that fits do not wait for a network. What cannot be uploaded is tried again at the
end, and then named. A mirror that fails is left alone for a while, longer each time: a run goes on without it.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import Any

from filelock import Timeout

from collapse_sim.core.daemons import Daemons
from collapse_sim.core.errors import InterruptedRunError, RemoteError
from collapse_sim.core.events import Emit, Note
from collapse_sim.core.remote import Remote
from collapse_sim.store.blocks import object_folder, parse_block, present
from collapse_sim.store.cache import entries
from collapse_sim.store.jobs import Job, Request
from collapse_sim.store.machine_lock import MachineLock
from collapse_sim.store.mirror import Mirror, Missing, Transferred, Unmirrored
from collapse_sim.store.mirror_files import UnfitError, fetch_block, listed, push_block
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store

FETCHES, PUSHES = 16, 8  # transfers at the same time: most of the time of small files is latency
FRESH_S = 30.0  # how long it is believed that the mirror lacks an artefact
PATIENCE_S = 120.0  # without any progress, after which no more is waited for
GRACE_S = 5.0  # for uploads, once a stop was requested
AWAY_S, LONGEST_AWAY_S = 60.0, 3600.0  # how long a mirror that fails is left alone: twice as long each time
FAILURES = 3  # in a row, after which it is
SHOWN = 3  # reasons in a message
POLL_S = 0.1


def open_mirror(url: str | None, root: Path, check_stop: Callable[[], None] = lambda: None) -> Mirror:
    """The mirror of the store at `root`, once it was written to and read; None: no mirror.

    Raises RecipeError, MissingError and RemoteError.
    """
    if url is None:
        return Unmirrored()
    remote = Remote(url)
    try:
        remote.check()
    except RemoteError as error:
        raise RemoteError(
            f"--mirror {error}; nothing was computed: a run without --mirror does not need it, and `collapse-sim cache "
            "push` uploads its artefacts later"
        ) from None
    return StoreMirror(remote, root, check_stop)


def available(url: str | None, specs: Iterable[Spec], root: Path) -> dict[str, set[int]] | None:
    """{digest: seeds (-1: the same for all)} of what the mirror of the store at `root` has of some specs; None
    without one. Nothing is written. Raises RecipeError, MissingError and RemoteError."""
    if url is None:
        return None
    remote = Remote(url)
    try:
        remote.reach()
        return StoreMirror(remote, root).available({spec.digest for spec in specs})
    except RemoteError as error:
        raise RemoteError(f"--mirror {error}") from None


def push_all(url: str, store: Store) -> tuple[Transferred, list[str]]:
    """Upload what the mirror of a store lacks. Returns what was, and the reasons of what could not be.

    Raises RecipeError, MissingError and RemoteError for a mirror that cannot be used at all.
    """
    mirror = open_mirror(url, store.root)
    assert isinstance(mirror, StoreMirror)
    folders = [entry.folder for entry in entries(store)]
    mirror.look(folder.parent.name for folder in folders)  # before any failure ends the asking: what is there is none
    mirror.push(folders)
    return mirror.finish(lambda event: None), mirror.reasons()


class StoreMirror:
    """The mirror of the store at `root`. `check_stop` raises InterruptedRunError when the run must stop."""

    def __init__(self, remote: Remote, root: Path, check_stop: Callable[[], None] = lambda: None) -> None:
        self._remote, self._root, self._check_stop = remote, root, check_stop
        self._fetching, self._pushing = Daemons(FETCHES, "fetch"), Daemons(PUSHES, "push")
        self._guard = threading.Lock()  # of everything below
        self._listed: dict[str, tuple[float, dict[str, int]]] = {}  # digest -> when, and {block: bytes of its manifest}
        self._damaged: set[Path] = set()  # artefacts that are damaged in the mirror
        self._there: set[Path] = set()  # artefacts that the mirror has
        self._pending: dict[Path, Future[None]] = {}
        self._failed: dict[Path, str] = {}  # artefacts that could not be uploaded, with the reason
        self._moved = 0  # bytes and artefacts: it grows as long as anything is transferred
        self._counts = Transferred()
        self._failures, self._reason = 0, ""
        self._away_until, self._away_s = 0.0, AWAY_S

    # -- from the mirror -------------------------------------------------------------------------------------------

    def available(self, digests: Iterable[str]) -> dict[str, set[int]]:
        """{digest: seeds (-1: the same for all)} of what the mirror has. Raises RemoteError."""
        self.look(digests)
        self._fetching.close()
        if self._reason:
            raise RemoteError(self._reason)
        return {
            digest: {s for name in blocks for s in parse_block(name)} for digest, (_, blocks) in self._listed.items()
        }

    def fetch(self, requests: Sequence[Request], missing: Missing, emit: Emit, *, locked: bool = False) -> None:
        """See Mirror. Raises InterruptedRunError, and StoreError for the disk."""
        absent = {r.spec.digest: (r, s) for r in requests if (s := missing(r.spec, r.seeds, emit))}
        if not absent or self._away():
            return
        self.look(absent)
        tasks: list[Callable[[], None]] = []
        notes: list[str] = []
        for request, seeds in absent.values():
            blocks = self._listed.get(request.spec.digest, (0.0, {}))[1]
            for name in _chosen(blocks, seeds, present(self._root, request.spec.digest)):
                own = tuple(seed for seed in parse_block(name) if seed >= 0)
                job = Job(request.spec, own, request.arms)
                tasks.append(partial(self._fetch, job, blocks[name], notes, locked))
        self._all(tasks)
        for note in notes:
            emit(Note(note))

    def look(self, digests: Iterable[str]) -> None:
        """List the blocks of digests, unless that was just done."""
        now = time.monotonic()
        stale = [digest for digest in digests if digest not in self._listed or now - self._listed[digest][0] > FRESH_S]
        self._all([partial(self._list, digest) for digest in stale])

    def _list(self, digest: str) -> dict[str, int]:
        blocks: dict[str, int] = self._call(partial(listed, self._remote, digest))
        with self._guard:
            self._listed[digest] = time.monotonic(), blocks
            self._moved += 1
        return blocks

    def _fetch(self, job: Job, size: int, notes: list[str], locked: bool) -> None:
        """Fetch one artefact, unless another process is making or fetching it."""
        folder = object_folder(self._root, job.spec.digest) / job.block
        lock = MachineLock(self._root / "locks" / f"{job.lock_name}.lock")
        if folder in self._damaged:
            return
        try:
            if not locked:
                lock.acquire(timeout=0)
        except Timeout:
            return
        try:
            if not folder.exists():
                fetched = self._call(partial(fetch_block, self._remote, self._root, job, size, self._progress))
                self._count(fetched=len(job.seeds) or 1, fetched_bytes=fetched)
            with self._guard:
                self._there.add(folder)
        except UnfitError as error:
            with self._guard:
                if error.damaged:
                    self._damaged.add(folder)
                    self._there.discard(folder)
                else:
                    self._there.add(folder)
            outcome = "made again, and uploaded in its place" if error.damaged else "made again"
            what = f"{job.spec.kind} {job.spec.digest[:12]}/{job.block}"
            notes.append(f"{what} of the mirror is not used: {error}; it is {outcome}")
        finally:
            if not locked:
                lock.release()

    # -- to the mirror ---------------------------------------------------------------------------------------------

    def push(self, folders: Iterable[Path]) -> None:
        """See Mirror."""
        for folder in dict.fromkeys(folders):
            with self._guard:
                if folder not in self._there and folder not in self._pending:
                    self._failed.pop(folder, None)
                    self._pending[folder] = self._pushing.submit(partial(self._push, folder))

    def _push(self, folder: Path) -> None:
        digest, again = folder.parent.name, folder in self._damaged
        problem, pushed = "", None
        try:
            blocks = self._listed[digest][1] if digest in self._listed else self._list(digest)
            if again or folder.name not in blocks:
                pushed = self._call(partial(push_block, self._remote, folder, self._progress, again=again))
        except FileNotFoundError:
            pass  # it was removed meanwhile
        except Exception as error:  # none of it may end the run
            problem = str(error)
        if pushed is not None:
            self._count(pushed=len(parse_block(folder.name)), pushed_bytes=pushed)
        with self._guard:
            self._pending.pop(folder, None)
            self._moved += 1
            if problem:
                self._failed[folder] = problem
            else:
                self._there.add(folder)
                self._damaged.discard(folder)

    def settled(self) -> bool:
        """See Mirror. Raises InterruptedRunError. A mirror that is left alone is not waited for."""
        if not self._away():
            self.push(list(self._failed))
            self._wait(self._uploads)
        return not self._failed and not self._pending

    def finish(self, emit: Emit) -> Transferred:
        """See Mirror. After a stop it waits for GRACE_S only."""
        deadline = 0.0
        self._away_until, self._failures = 0.0, FAILURES - 1  # one more failure is enough
        self.push(list(self._failed))
        if len(self._pending) > PUSHES:
            emit(Note(f"{len(self._pending)} uploads to the mirror are left", "info"))
        try:
            self._wait(self._uploads)
        except InterruptedRunError:
            deadline = time.monotonic() + GRACE_S
        while self._pending and time.monotonic() < deadline:
            time.sleep(POLL_S)
        with self._guard:
            for folder, future in list(self._pending.items()):
                future.cancel()
                self._failed[folder] = "the upload was not finished" + (
                    " within the time after a stop" if deadline else ""
                )
            result = self._counts._replace(failed=sum(len(parse_block(folder.name)) for folder in self._failed))
        for text, level in self._report(result):
            emit(Note(text, level))
        self._fetching.close()
        self._pushing.close()
        return result

    def moved(self) -> Transferred:
        """What was transferred so far."""
        with self._guard:
            return self._counts

    def add(self, fetched: int, fetched_bytes: int) -> None:
        """Count what another process has fetched for this run."""
        self._count(fetched=fetched, fetched_bytes=fetched_bytes)

    def reasons(self) -> list[str]:
        """Why artefacts could not be uploaded: the first few reasons, each once."""
        reasons = list(dict.fromkeys(self._failed.values()))
        return [*reasons[:SHOWN], *([f"and {len(reasons) - SHOWN} more reasons"] if len(reasons) > SHOWN else [])]

    def _report(self, result: Transferred) -> Iterator[tuple[str, Any]]:
        if result.fetched or result.pushed:
            text = f"{result.fetched} artefacts fetched ({result.fetched_bytes / 1e6:.1f} MB), "
            text += f"{result.pushed} pushed ({result.pushed_bytes / 1e6:.1f} MB)"
            yield f"mirror {self._remote.shown}: {text}", "info"
        if result.failed:
            why = "; ".join(self.reasons())
            command = shlex.join(
                ["collapse-sim", "cache", "push", "--store", str(self._root), "--mirror", self._remote.shown]
            )
            yield (
                f"{result.failed} artefacts are in the store and not in the mirror ({why}); to upload them: {command}",
                "warning",
            )

    # -- waiting and failing ---------------------------------------------------------------------------------------

    def _all(self, tasks: Sequence[Callable[[], Any]]) -> None:
        """Do tasks at the same time; what fails because of the mirror is left out. Raises what else they raise."""
        futures = [self._fetching.submit(task) for task in tasks]
        try:
            self._wait(lambda: [future for future in futures if not future.done()])
        finally:
            for future in futures:
                future.cancel()
        for future in futures:
            error = future.exception() if future.done() and not future.cancelled() else None
            if error is not None and not isinstance(error, RemoteError):
                raise error

    def _uploads(self) -> list[Future[None]]:
        with self._guard:
            return list(self._pending.values())

    def _wait(self, left: Callable[[], Collection[Future[Any]]]) -> None:
        """Until nothing is left, or nothing has moved for PATIENCE_S. Raises InterruptedRunError."""
        moved, since = self._moved, time.monotonic()
        while futures := left():
            self._check_stop()
            wait(futures, POLL_S)
            if self._moved != moved:
                moved, since = self._moved, time.monotonic()
            elif time.monotonic() - since > PATIENCE_S:
                self._leave(f"{self._remote.shown}: no progress for {PATIENCE_S:.0f} s")
                return

    def _away(self) -> bool:
        return time.monotonic() < self._away_until

    def _call(self, act: Callable[[], Any]) -> Any:
        """What `act` returns. Raises RemoteError, at once while the mirror is left alone."""
        if self._away():
            raise RemoteError(self._reason)
        try:
            result = act()
        except RemoteError as error:
            with self._guard:
                self._failures += 1
                self._reason = str(error)
            if self._failures >= FAILURES:
                self._leave(str(error))
            raise
        with self._guard:
            self._failures, self._away_s = 0, AWAY_S
        return result

    def _leave(self, reason: str) -> None:
        """Do not use the mirror for a while."""
        with self._guard:
            if not self._away():
                self._away_until = time.monotonic() + self._away_s
                self._away_s = min(2 * self._away_s, LONGEST_AWAY_S)
            self._reason = reason

    def _progress(self, count: int) -> None:
        with self._guard:
            self._moved += count

    def _count(self, **more: int) -> None:
        with self._guard:
            self._moved += 1
            self._counts = self._counts._replace(**{k: getattr(self._counts, k) + v for k, v in more.items()})


def _chosen(blocks: Iterable[str], seeds: Collection[int], local: Collection[int]) -> list[str]:
    """The blocks to fetch for missing seeds: those with most of them first, none with a seed that is there already."""
    left, taken, chosen = {*seeds}, {*local}, []
    for name in sorted(blocks, key=lambda name: -len(left & {*parse_block(name)})):
        own = {*parse_block(name)}
        if own & left and not own & taken:
            chosen.append(name)
            taken |= own
            left -= own
    return chosen
