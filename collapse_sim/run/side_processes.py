"""Several processes of one machine that compute a run together (`run --on processes:N`): this one, and others that it
starts.

The others only make artefacts, each what no other process is making. The run asks its store for everything, as it does
without them, and makes what is missing: so whatever happens to them, nothing is lost, and records, failures and exit
codes are those of a run of one process. What they made counts as made.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Self

from collapse_sim.core.errors import DivergedError
from collapse_sim.core.events import Emit, Event, JobFinished, JobProgress, JobStarted, Note, OnNode, Waiting
from collapse_sim.engine.build import builder
from collapse_sim.engine.work import JobContext
from collapse_sim.run.child_process import start_child
from collapse_sim.run.executing import Executor, Here
from collapse_sim.run.side_child import ChainsEnded, Fetched, Message, Printed, SideEnded, SideOrder
from collapse_sim.store.jobs import Job, Request
from collapse_sim.store.mirroring import StoreMirror
from collapse_sim.store.store import Build
from collapse_sim.store.waiting import NO_WORK, Meanwhile

POLL_S = 0.2
CHECKPOINT_S = 30.0  # for the others' checkpoints, once the run has to stop
END_S = 2.0  # for them to end, once everything is made
START = "import sys; from collapse_sim.run.side_child import main; main(int(sys.argv[1]))"
Artefact = tuple[str, int]  # digest, seed (-1: the same for all)


@dataclass
class SideProcess:
    """Another process, as its parent knows it."""

    number: int  # from 2: this process is the first
    child: subprocess.Popen[bytes]
    connection: Connection
    idle: bool = False  # it waits for processes that this one has not started, or for this one
    over: bool = False  # nothing more comes from it
    said: str | None = None  # how it ended, by itself
    makes: list[JobStarted] = field(default_factory=list)  # the job that it told of last

    @property
    def name(self) -> str:
        return f"process {self.number}"


@contextmanager
def beside(order: SideOrder, count: int, context: JobContext) -> Iterator[tuple[JobContext, Executor | None]]:
    """The context and the executor of a run by `count` processes, this one included; None: the usual one."""
    if count == 1:
        yield context, None
        return
    with SideProcesses(order, count, context) as others:
        yield others.context, others


class SideProcesses:
    """The executor of this process. Everything that others tell is read both by a thread and before this process uses
    an artefact, so that what they made is known by then."""

    def __init__(self, order: SideOrder, count: int, context: JobContext) -> None:
        self.context = replace(context, emit=self.emit)
        self._order, self._count, self._show = order, count, context.emit
        self._here = Here(self.context, partial(self._build, builder(self.context)))
        self._others: list[SideProcess] = []
        self._lock = threading.RLock()  # of everything below
        self._begun: dict[Artefact, float] = {}  # by others, and not counted yet; seconds, once they are known
        self._shown: set[Artefact] = set()  # as made
        self._ended: dict[Artefact, ChainsEnded] = {}
        self._said: set[str] = set()  # notes and lines on stderr, each of which is shown once
        self._closing = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="other processes", daemon=True)

    # -- the executor ---------------------------------------------------------------------------------------------

    def make_all(self, requests: Sequence[Request], emit: Emit, meanwhile: Meanwhile | None = NO_WORK) -> Counter[str]:
        """See Executor. What others made counts as made, once."""
        store, made = self.context.store, CountedAsMade(self, emit)
        store.patience = replace(store.patience, working=self.working)
        counts = self._here.make_all(requests, made, meanwhile)
        return counts + Counter(made=made.count) - Counter(reused=made.count)

    def working(self) -> bool:
        """Whether another process makes something, so that this one need not end for want of work."""
        self.hear()
        return any(not (other.over or other.idle) for other in self._others)

    def emit(self, event: Event) -> None:
        """Show an event of this process, unless it is about what others have made and was shown before."""
        if isinstance(event, JobFinished) and not event.reused:
            left = tuple(key for key in _keys(event) if key not in self._shown)
            if not left:
                return
            event = replace(event, seeds=tuple(seed for _, seed in left if seed >= 0))
        elif isinstance(event, Note):
            self._said.add(event.message)
        self._show(event)

    def taken(self, event: JobFinished) -> dict[Artefact, float]:
        """Which of a finished job's artefacts others have made, with their seconds. Each is given once."""
        self.hear()
        with self._lock:
            return {key: self._begun.pop(key) for key in _keys(event) if key in self._begun}

    def _build(self, build: Build, jobs: Sequence[Job], places: Sequence[Path]) -> Mapping[int, Exception]:
        """`build`, but a chain that ended in another process ends here with the same message."""
        self.hear()
        if len(jobs) == 1:
            (job,) = jobs
            ended = next(
                (found for seed in job.seeds or (-1,) if (found := self._ended.get((job.spec.digest, seed)))), None
            )
            if ended is not None:
                raise DivergedError(ended.message, tuple(seed for seed in job.seeds if seed in ended.seeds))
        return build(jobs, places)

    # -- what the others tell -------------------------------------------------------------------------------------

    def hear(self) -> None:
        """Take everything that the others have told."""
        with self._lock:
            for other in self._others:
                while not other.over and other.connection.poll():
                    try:
                        message: Message = other.connection.recv()
                    except (EOFError, OSError):
                        self._lost(other)
                    else:
                        self._take(other, message)

    def _listen(self) -> None:
        while not self._closing.is_set():
            live = [other.connection for other in self._others if not other.over]
            if not live:
                return
            wait(live, POLL_S)
            self.hear()

    def _take(self, other: SideProcess, message: Message) -> None:
        if isinstance(message, JobStarted | JobProgress | Waiting):
            other.idle = isinstance(message, Waiting)
            if isinstance(message, JobStarted):
                other.makes = [message]
                self._begun |= dict.fromkeys(_keys(message), 0.0)
            self._show(OnNode(other.name, other.number, message))
        elif isinstance(message, JobFinished):
            new = [key for key in _keys(message) if key in self._begun]
            self._begun |= dict.fromkeys(new, message.wall_s)
            self._shown.update(new)
            if new:
                self._show(replace(message, seeds=tuple(seed for _, seed in new if seed >= 0)))
        elif isinstance(message, Note):
            if message.message not in self._said:
                self._said.add(message.message)
                self._show(message)
        elif isinstance(message, ChainsEnded):
            self._ended |= {(message.digest, seed): message for seed in message.seeds or (-1,)}
        elif isinstance(message, Fetched):
            if isinstance(self.context.store.mirror, StoreMirror):
                self.context.store.mirror.add(message.artefacts, message.bytes)
        elif isinstance(message, Printed):
            if message.text not in self._said:
                self._said.add(message.text)
                print(message.text, end="", file=sys.stderr, flush=True)
        elif isinstance(message, SideEnded):
            other.said = message.problem

    def _lost(self, other: SideProcess) -> None:
        """Its connection has ended, and soon the process, if it has not."""
        other.over = True
        for job in other.makes:
            self._show(OnNode(other.name, other.number, Waiting(job.kind, job.digest, job.generation)))
        if self._closing.is_set() or other.said == "":
            return
        reason = other.said
        if reason is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                other.child.wait(END_S)
            reason = _end_of(other.child.returncode)
        self._show(Note(f"--on processes: {other.name} of {self._count} failed ({reason}): the run goes on without it"))

    # -- start and end --------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            order = pickle.dumps(self._order)
            for number in range(2, self._count + 1):
                self._others.append(_started(number, order))
        except (OSError, pickle.PicklingError, AttributeError, TypeError, RecursionError) as error:
            of = f"{len(self._others) + 1} of {self._count} processes"
            self._show(Note(f"--on processes: {of} compute the run: no other can be started ({error})"))
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the others. After an interrupt, and any other error, they have time for their checkpoints."""
        patience_s = 0.0 if isinstance(error, KeyboardInterrupt) else END_S if error is None else CHECKPOINT_S
        self.hear()
        self._closing.set()
        self._listener.join()
        for other in self._others:
            other.connection.close()
        try:
            deadline = time.monotonic() + patience_s
            for other in self._others:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    other.child.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for other in self._others:
                other.child.kill()
                other.child.wait()


class CountedAsMade:
    """Emits events, those of artefacts that another process of the run has made as of ones that are made now."""

    def __init__(self, others: SideProcesses, emit: Emit) -> None:
        self._others, self._emit = others, emit
        self.count = 0

    def __call__(self, event: Event) -> None:
        if not isinstance(event, JobFinished):
            self._emit(event)
            return
        taken = self._others.taken(event)
        if not event.reused or not taken:  # what another one has begun in vain, this one may have made
            self._emit(event)
            return
        self.count += len(taken)
        made = tuple(seed for _, seed in taken if seed >= 0)
        self._emit(replace(event, seeds=made, reused=False, wall_s=max(taken.values())))
        if rest := tuple(seed for seed in event.seeds if seed not in made):
            self._emit(replace(event, seeds=rest))


def _started(number: int, order: bytes) -> SideProcess:
    """Another process, to which the order is sent. Raises OSError."""
    child, connection = start_child(START)
    with contextlib.suppress(OSError):  # it has ended, which is noticed later
        connection.send_bytes(order)
    return SideProcess(number, child, connection)


def _keys(event: JobStarted | JobFinished) -> list[Artefact]:
    return [(event.digest, seed) for seed in event.seeds or (-1,)]


def _end_of(code: int | None) -> str:
    """Of a process that said nothing."""
    if code is None:
        return "it does not answer"
    if code >= 0:
        return f"it ended with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return f"it was ended by {name}" + (", perhaps for want of memory" if code == -signal.SIGKILL else "")
