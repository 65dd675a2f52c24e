"""The other process of `run --overlap`: it makes the scores that it is asked for, until its parent is gone.

Importing this module imports no torch, so that what the parent sends is taken from it at once.
"""

from __future__ import annotations

import contextlib
import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from collapse_sim.core.events import Event, JobFinished, Note

if TYPE_CHECKING:
    from collapse_sim.core.machine import Device
    from collapse_sim.engine.work import JobContext
    from collapse_sim.plan.experiment import Experiment


class Surroundings(NamedTuple):
    """What scores are computed with, as in the parent."""

    experiment: Experiment
    store: Path
    data_dir: Path
    device: Device
    threads: int


Asked = Sequence[tuple[str, tuple[int, ...], tuple[str, ...]]]  # scores to make: digest, seeds, arms


@dataclass
class Answer:
    """What was made of it."""

    made: dict[tuple[str, int], float] = field(default_factory=dict)  # (digest, seed): seconds of its job
    notes: list[Note] = field(default_factory=list)
    printed: str = ""  # to stderr, warnings included
    problem: str = ""  # why this process can do no more; its parent does the rest

    def add(self, event: Event) -> None:
        """Keep of an event what the parent shows."""
        if isinstance(event, Note):
            self.notes.append(event)
        elif isinstance(event, JobFinished) and not event.reused:
            self.made.update(((event.digest, seed), event.wall_s) for seed in event.seeds)


class _Work:
    """The experiment's scores, and the store."""

    def __init__(self, surroundings: Surroundings, connection: Connection) -> None:
        import torch

        from collapse_sim.engine.build import builder, made_on
        from collapse_sim.engine.programs import Programs
        from collapse_sim.engine.work import JobContext, Stop
        from collapse_sim.store.store import Store

        class ParentGone(Stop):
            """A parent that waits for an answer sends nothing: what can be read is the end of its connection."""

            @property
            def wanted(self) -> bool:
                return connection.poll()

        torch.set_num_threads(surroundings.threads)
        scores = (
            spec for arm in surroundings.experiment.arm_plans for k in arm.generations for spec in k.scores.values()
        )
        self._scores = {spec.digest: spec for spec in scores}
        stop, device, programs = ParentGone(), surroundings.device, Programs("off")
        store = Store(surroundings.store, stop.check)
        store.made_on = lambda job: made_on(device, programs, job)
        self._answer = Answer()
        self._context: JobContext = JobContext(
            store, device, lambda event: self._answer.add(event), surroundings.data_dir, stop, programs=programs
        )
        self._build = builder(self._context)

    def make(self, asked: Asked, answer: Answer) -> None:
        """Failed jobs are left to the parent, which makes them again and reports them; so is what other processes are
        making: the parent waits for it as it waits for everything else."""
        from collapse_sim.store.jobs import Request

        self._answer = answer
        requests = [Request(self._scores[digest], seeds, arms) for digest, seeds, arms in asked]
        self._context.store.make_all(requests, self._build, self._context.emit, meanwhile=None)


def serve(connection: Connection) -> None:
    """Answer until the parent is gone."""
    work: _Work | None = None
    with contextlib.suppress(EOFError, OSError):
        surroundings: bytes = connection.recv_bytes()
        while True:
            asked: Asked = connection.recv()
            answer, printed = Answer(), io.StringIO()
            with contextlib.redirect_stderr(printed):
                try:
                    work = work or _Work(pickle.loads(surroundings), connection)
                    work.make(asked, answer)
                except Exception as error:
                    answer.problem = f"{type(error).__name__}: {error}"
            answer.printed = printed.getvalue()
            connection.send(answer)


def main(descriptor: int) -> None:
    """Serve on an inherited socket."""
    with Connection(descriptor) as connection:
        serve(connection)
