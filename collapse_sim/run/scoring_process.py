"""Scores of a generation, computed by another process while the next generation is fitted (`run --overlap`).

The other process only makes artefacts ahead. The run asks its store for the same scores afterwards, as it does without
that process, and makes what is still missing: so whatever happens to the other process, nothing is lost, and failures,
records and exit codes are those of a run without it.

It is a process and not a thread: Python's lock makes a loop that starts many small operations wait for whatever another
thread computes, and torch's global generators, hooks and numbers of threads, like the standard output, are one per
process. Scores that read a model stay in the run's own process, so that no model is loaded twice.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Self

import torch

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.events import Emit, Event, JobFinished, Note
from collapse_sim.core.machine import Device
from collapse_sim.core.ranks import Ranks
from collapse_sim.engine.work import JobContext
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.score_specs import ScoreSpec
from collapse_sim.run.child_process import start_child
from collapse_sim.run.scoring_child import Answer, Surroundings
from collapse_sim.store.failures import missing_of
from collapse_sim.store.jobs import Request, merge
from collapse_sim.store.spec import Spec

MODES = ("auto", "on", "off")
PAYS_S = 20.0  # seconds of scoring to come from which `auto` starts a process, which takes some seconds itself
POLL_S = 0.1  # between two checks for a requested stop
GRACE_S = 5.0  # how long it may go on with a score when the run ends
START = "import sys; from collapse_sim.run.scoring_child import main; main(int(sys.argv[1]))"


def check_overlap(mode: str, ranks: Ranks) -> None:
    """Raise RecipeError for anything but "auto", "on" and "off", and for "on" with several ranks."""
    if mode not in MODES:
        raise RecipeError(f"--overlap {mode}: allowed: {', '.join(MODES)}")
    if mode == "on" and ranks.world > 1:
        raise RecipeError(
            f"--overlap on: with {ranks.world} ranks scores are computed between fits; use --overlap off, or one "
            "process"
        )


def may_overlap(mode: str, device: Device, ranks: Ranks) -> bool:
    """Whether scores may be made while the next generation is fitted. `auto`: beside a GPU, which would wait for them.
    A CPU gains only where a core is idle."""
    return ranks.world == 1 and (mode == "on" or (mode == "auto" and device.device.type == "cuda"))


class ScoringProcess:
    """Makes scores of one generation at a time. It is started when it is first needed."""

    def __init__(self, experiment: Experiment, context: JobContext, mode: str) -> None:
        self._experiment, self._context = experiment, context
        self._possible = may_overlap(mode, context.device, context.ranks)
        self._always = mode == "on"
        self._seconds = 0.0  # that the last scores took here
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._busy = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def split(self, requests: Sequence[Request]) -> tuple[list[Request], list[Request]]:
        """The scores that the other process may make, and those that are made here: they read a model."""
        apart = [request for request in requests if self._possible and _reads_no_model(request.spec)]
        return apart, [request for request in requests if request not in apart]

    def begin(self, requests: Sequence[Request], later: int) -> bool:
        """Begin to make scores, if it pays. Returns whether it does; `finish` is to be called in both cases.

        `later`: how many generations follow.
        """
        if self._possible and later and (self._always or later * self._seconds >= PAYS_S):
            self._ask(list(self._missing(requests)))
        return self._busy

    def working(self) -> bool:
        """Whether it computes."""
        return self._busy and self._connection is not None and not self._connection.poll()

    def finish(self, make: Callable[[Emit], Counter[str]]) -> Counter[str]:
        """Wait for what was begun, and call `make`, which makes what is missing; what the other process made counts as
        made. Raises InterruptedRunError."""
        alone, started = not self._busy, time.perf_counter()
        made = _AsMade(self._context.emit, self._wait())
        counts = make(made)
        if alone:
            self._seconds = time.perf_counter() - started
        return counts + Counter(made=made.count) - Counter(reused=made.count)

    def close(self) -> None:
        """End the process; an artefact that it is making is given up after some seconds, and leaves no damage."""
        child, self._child, busy = self._child, None, self._busy
        self._possible = self._busy = False
        if self._connection is not None:
            self._connection.close()
        if child is None:
            return
        try:
            if busy:
                child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            child.kill()
            child.wait()

    def _missing(self, requests: Sequence[Request]) -> Iterator[Request]:
        """What is missing, also in the store's mirror, and can be made: nothing that it is made from has failed."""
        store = self._context.store
        store.mirror.fetch(merge(requests), store.missing, self._context.emit)
        for request in requests:
            absent = store.missing(request.spec, request.seeds, self._context.emit)
            if missing := missing_of(request.spec, absent, store.failures):
                yield Request(request.spec, missing, request.arms)

    def _ask(self, requests: Sequence[Request]) -> None:
        if not requests:
            return
        try:
            if self._connection is None:
                self._start()
            assert self._connection is not None
            self._connection.send([(request.spec.digest, request.seeds, request.arms) for request in requests])
            self._busy = True
        except (OSError, pickle.PicklingError, AttributeError, TypeError, RecursionError) as error:
            self._give_up(f"{type(error).__name__}: {error}")

    def _start(self) -> None:
        context = self._context
        surroundings = pickle.dumps(
            Surroundings(
                self._experiment, context.store.root, context.data_dir, context.device, torch.get_num_threads()
            )
        )
        self._child, self._connection = start_child(START)
        self._connection.send_bytes(surroundings)

    def _wait(self) -> Answer:
        if not self._busy:
            return Answer()
        assert self._connection is not None
        while not self._connection.poll(POLL_S):
            self._context.stop.check()
        self._busy = False
        try:
            answer: Answer = self._connection.recv()
        except (EOFError, OSError):
            self._give_up("it ended")
            return Answer()
        for note in answer.notes:
            self._context.emit(note)
        if answer.printed:
            print(answer.printed, end="", file=sys.stderr, flush=True)
        if answer.problem:
            self._give_up(answer.problem)
        return answer

    def _give_up(self, reason: str) -> None:
        self.close()
        self._context.emit(
            Note(f"--overlap: the other process failed ({reason}): scores are computed between fits again")
        )


def _reads_no_model(spec: Spec) -> bool:
    return isinstance(spec, ScoreSpec) and not {"model", "origin"}.intersection(spec.metric.needs)


class _AsMade:
    """Emits events, those of artefacts that were made by the other process as of ones that are made now."""

    def __init__(self, emit: Emit, answer: Answer) -> None:
        self._emit, self._made = emit, answer.made
        self.count = 0

    def __call__(self, event: Event) -> None:
        if not isinstance(event, JobFinished) or not event.reused:
            self._emit(event)
            return
        made = tuple(seed for seed in event.seeds if (event.digest, seed) in self._made)
        rest = tuple(seed for seed in event.seeds if seed not in made)
        place = (event.kind, event.digest, event.generation, event.arms)
        if made:
            self.count += len(made)
            self._emit(JobFinished(*place, made, False, max(self._made[event.digest, seed] for seed in made)))
        if rest or not made:
            self._emit(JobFinished(*place, rest, True, event.wall_s))
