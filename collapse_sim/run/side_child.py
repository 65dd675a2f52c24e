"""Another process of a run on one machine (`run --on processes:N`): it makes what the run lacks, as far as no other
process is making it, and tells its parent of it. Records, pictures and pruning are the parent's.

Importing this module imports no torch, so that what the parent sends is taken from it at once.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import signal
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from collapse_sim.core.errors import DivergedError, InterruptedRunError
from collapse_sim.core.events import Emit, Event, JobFinished, JobProgress, JobStarted, Note, Waiting
from collapse_sim.store.mirror import Missing, Transferred

if TYPE_CHECKING:
    from collapse_sim.core.machine import Device
    from collapse_sim.engine.programs import Mode
    from collapse_sim.engine.work import Stop
    from collapse_sim.plan.experiment import Experiment
    from collapse_sim.store.jobs import Job, Request
    from collapse_sim.store.mirroring import StoreMirror
    from collapse_sim.store.store import Build


class SideOrder(NamedTuple):
    """What the run is computed with, as in the parent."""

    experiment: Experiment
    folder: Path
    store: Path
    data_dir: Path
    device: Device
    checkpoint_s: float
    together: int  # the most fits that are computed together
    compiled: Mode
    mirror: str | None


class ChainsEnded(NamedTuple):
    """A fit or its samples became non-finite. It is told while the job's lock is still held, so the parent, which would
    get the same error with the same message, need not make it again."""

    digest: str
    seeds: tuple[int, ...]  # (): the same for all
    message: str


class Fetched(NamedTuple):
    """What was fetched from the mirror."""

    artefacts: int
    bytes: int


class Printed(NamedTuple):
    """Text on stderr: warnings of libraries, and what plug-ins print."""

    text: str


class SideEnded(NamedTuple):
    """Nothing is left that this process could make. `problem`: why it makes no more, if something was left."""

    problem: str = ""


Message = Event | ChainsEnded | Fetched | Printed | SideEnded


class Telling:
    """Sends messages from any thread, until the parent is gone."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def __call__(self, message: Message) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._connection.send(message)

    def emit(self, event: Event) -> None:
        """Send what the parent shows or counts. A failed job is left to the parent, which makes it again and reports
        it."""
        made = isinstance(event, JobFinished) and not event.reused
        if made or isinstance(event, JobStarted | JobProgress | Waiting | Note):
            self(event)


class ToldText(io.TextIOBase):
    """A stream whose lines are sent."""

    def __init__(self, tell: Telling) -> None:
        self._tell, self._line = tell, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        if lines:
            self._tell(Printed("".join(f"{line}\n" for line in lines)))
        return len(text)


class FetchingMirror:
    """A mirror that is only read: what this process makes is uploaded by its parent, which comes to it later."""

    def __init__(self, mirror: StoreMirror, tell: Telling) -> None:
        self._mirror, self._tell = mirror, tell
        self._told = Transferred()

    def fetch(self, requests: Sequence[Request], missing: Missing, emit: Emit, *, locked: bool = False) -> None:
        """See Mirror."""
        self._mirror.fetch(requests, missing, emit, locked=locked)
        now, before = self._mirror.moved(), self._told
        if now.fetched > before.fetched:
            self._tell(Fetched(now.fetched - before.fetched, now.fetched_bytes - before.fetched_bytes))
            self._told = now

    def push(self, folders: Iterable[Path]) -> None:
        """Nothing."""

    def settled(self) -> bool:
        """It has everything that was pushed: nothing."""
        return True

    def finish(self, emit: Emit) -> Transferred:
        """See Mirror."""
        return self._mirror.finish(emit)


def serve(connection: Connection) -> None:
    """Make what the run lacks, until all of it is made or the parent is gone."""
    from_parent = connection.recv_bytes()
    tell, problem = Telling(connection), ""
    with contextlib.redirect_stderr(ToldText(tell)):
        try:
            _work(pickle.loads(from_parent), connection, tell)
        except InterruptedRunError:
            pass
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
    tell(SideEnded(problem))


def _work(order: SideOrder, connection: Connection, tell: Telling) -> None:
    from collapse_sim.engine.build import builder, made_on
    from collapse_sim.engine.programs import Programs
    from collapse_sim.engine.work import JobContext, Stop
    from collapse_sim.plan.sizes import operations_per_step
    from collapse_sim.run.executing import Here
    from collapse_sim.run.loop import run_generations
    from collapse_sim.store.mirroring import StoreMirror, open_mirror
    from collapse_sim.store.run_writer import RunWriter
    from collapse_sim.store.store import Store

    stop, programs = Stop(), Programs(order.compiled)
    threading.Thread(target=_watch, args=(connection, stop), name="parent", daemon=True).start()
    store = Store(order.store, stop.check)  # which waits for other processes, however long it takes
    mirror = open_mirror(order.mirror, order.store, stop.check)
    if isinstance(mirror, StoreMirror):
        store.mirror = FetchingMirror(mirror, tell)
    store.made_on = partial(made_on, order.device, programs, world=1)
    context = JobContext(
        store, order.device, tell.emit, order.data_dir, stop, order.checkpoint_s, order.together, programs
    )
    here = Here(context, partial(_telling, builder(context), tell))
    with stop.on_signals(lambda _: None), order.device.limit_threads(operations_per_step(order.experiment)):
        run_generations(order.experiment, RunWriter(order.folder), context, executor=here, leads=False)


def _watch(connection: Connection, stop: Stop) -> None:
    """Request a stop when the parent is gone: it sends nothing more, so what can be read is the connection's end."""
    with contextlib.suppress(OSError):
        connection.poll(None)
    stop.signal_number = signal.SIGTERM


def _telling(build: Build, tell: Telling, jobs: Sequence[Job], places: Sequence[Path]) -> Mapping[int, Exception]:
    """`build`, which tells of chains that end."""

    def ended(job: Job, error: Exception) -> None:
        if isinstance(error, DivergedError):
            tell(ChainsEnded(job.spec.digest, error.seeds or job.seeds, str(error)))

    try:
        failed = build(jobs, places)
    except DivergedError as error:
        if len(jobs) == 1:
            ended(jobs[0], error)
        raise
    for number, failure in failed.items():
        ended(jobs[number], failure)
    return failed


def main(descriptor: int) -> None:
    """Serve on an inherited socket."""
    with Connection(descriptor) as connection:
        serve(connection)
