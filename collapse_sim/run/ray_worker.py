"""What runs in a Ray task: jobs of the store, made by the plain engine in the process of a worker.

A worker rebuilds the experiment from the recipe's document once, and checks that it is the driver's. Nothing but keys,
events and errors goes through Ray; artefacts are in the store.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch

from collapse_sim.core.board import EndedError
from collapse_sim.core.errors import ENDS_RUN, InterruptedRunError, RanksError, RecipeError, StoreError
from collapse_sim.core.events import Emit, Event, JobFinished
from collapse_sim.core.hashing import digest_of
from collapse_sim.core.joining import VISIBLE_S, joined
from collapse_sim.core.launch import Launch
from collapse_sim.core.machine import open_device
from collapse_sim.core.ranks import Group, Ranks
from collapse_sim.engine.build import builder, made_on
from collapse_sim.engine.following import PatientStore, SharedStore, follow
from collapse_sim.engine.groups import grouping
from collapse_sim.engine.programs import Programs
from collapse_sim.engine.work import JobContext, Stop
from collapse_sim.plan.experiment import Experiment, prepare
from collapse_sim.plan.sizes import operations_per_step
from collapse_sim.recipe.loader import load
from collapse_sim.run.ray_messages import JobKey, NodeReport, Outcome, Reporting, WorkOrder, portable
from collapse_sim.store.failures import Failure, Failures
from collapse_sim.store.jobs import Job, Request
from collapse_sim.store.process import environment
from collapse_sim.store.store import Store

JOIN_S = 300.0  # until rank 0 has posted its address
ABSENT_S = 5.0  # until a store whose folder is not there counts as not seen


class Workshop:
    """A worker process, ready for the jobs of one run. Raises RecipeError, MissingError or StoreError where this node
    differs from the driver's."""

    def __init__(self, order: WorkOrder) -> None:
        self.order, self.stop = order, Stop()
        at = f"node {socket.gethostname()}"
        own = program()
        if own != order.program:
            raise RecipeError(f"{at} has another version of the program than the driver: {own} there, {order.program}")
        try:
            os.chdir(order.folder)
        except OSError as error:
            raise StoreError(
                f"{at} does not see the working directory {order.folder} ({error.strerror}): start the run in a folder "
                "of a file system that all nodes share"
            ) from error
        os.environ.update(order.variables)
        sys.path += [path for path in order.paths if path not in sys.path]
        _check_mark(order, at)
        self.experiment: Experiment = prepare(load(order.document, plugins=order.plugins), order.data_dir)
        self.specs = {spec.digest: spec for spec in self.experiment.specs()}
        if plan_hash(self.experiment) != order.plan:
            raise RecipeError(
                f"{at} plans other artefacts from this recipe than the driver: all nodes need the same data "
                f"({order.data_dir}), plug-ins and files"
            )
        self.operations = operations_per_step(self.experiment)
        self.programs = Programs(order.compiled)
        self.store = PatientStore(order.store, self._check_stop)

    def _check_stop(self) -> None:
        self.stop.check()

    def work(
        self, jobs: Sequence[JobKey], threads: int, device: str, emit: Emit, before: Failures, ranks: Ranks
    ) -> Outcome:
        """Make jobs. What one of them raises is recorded, as in any run. Raises EndedError on ranks other than 0."""
        torch.set_num_threads(threads)
        opened, outcome, order = open_device(device), Outcome(), self.order
        self.stop = stop = Stop()
        store: Store = self.store if ranks.first else SharedStore(order.store, self._check_stop)
        store.failures = before
        store.made_on = partial(made_on, opened, self.programs, world=ranks.world)

        def see(event: Event) -> None:
            if isinstance(event, JobFinished) and not event.reused:
                outcome.made += [(event.digest, seed) for seed in event.seeds or (-1,)]
            emit(event)

        context = JobContext(
            store, opened, see, order.data_dir, stop, order.checkpoint_s, order.together, self.programs, ranks
        )
        requests = [Request(self.specs[digest], seeds, arms) for digest, seeds, arms in jobs]
        try:
            with stop.on_signals(_unheard), opened.limit_threads(self.operations):
                if isinstance(ranks, Group) and not ranks.first:
                    ranks.board.wanted = lambda: stop.signal_number
                    follow(self.experiment, context, ranks)
                store.make_all(requests, builder(context), see, partial(grouping, context=context))
        except EndedError:
            raise
        except InterruptedRunError as error:
            outcome.signal = error.code - 128
        except KeyboardInterrupt:
            outcome.signal = signal.SIGINT
        except ENDS_RUN as error:
            outcome.ended = portable(error)
        finally:
            opened.release()  # this process may wait, or have a task without a GPU, while others use it
        outcome.failed = [_failure(failure) for failure in (*before.diverged(), *before.others())]
        return outcome


def _unheard(message: str) -> None:
    """The driver shows what happens."""


_WORKSHOPS: dict[str, Workshop] = {}  # the last one, by its mark


def workshop_of(order: WorkOrder) -> Workshop:
    """This process's workshop for a run: made once."""
    if order.mark[1] not in _WORKSHOPS:
        _WORKSHOPS.clear()
        _WORKSHOPS[order.mark[1]] = Workshop(order)
    return _WORKSHOPS[order.mark[1]]


def make_jobs(
    order: WorkOrder, jobs: Sequence[JobKey], threads: int, gpu: bool, exchange: Any, *before: Outcome
) -> Outcome:
    """The task: make jobs whose parents had these outcomes. Returns how it went; raises nothing of the engine's."""
    return _task(order, jobs, threads, gpu, exchange, before, None)


def make_rank(
    order: WorkOrder, jobs: Sequence[JobKey], threads: int, gpu: bool, exchange: Any, place: tuple[int, int, str],
    *before: Outcome,
) -> Outcome:  # fmt: skip
    """The task of one of several ranks that make a job together; `place`: rank, how many, the name of their address."""
    return _task(order, jobs, threads, gpu, exchange, before, place)


def try_node(order: WorkOrder) -> Outcome:
    """The first task on a node: see whether it can work for this run."""
    try:
        workshop_of(order)
    except Exception as error:
        return Outcome(ended=portable(error))
    return Outcome()


def _task(
    order: WorkOrder,
    jobs: Sequence[JobKey],
    threads: int,
    gpu: bool,
    exchange: Any,
    before: Sequence[Outcome],
    place: tuple[int, int, str] | None,
) -> Outcome:
    here = node_id(), os.getpid()
    if any(outcome.ended or outcome.signal for outcome in before):
        return Outcome(where=here, signal=signal.SIGINT)

    def send(events: list[Event]) -> None:
        exchange.put.remote(NodeReport(*here, events))

    with Reporting(send) as reports:
        try:
            workshop = workshop_of(order)
            failures = restored(before, workshop)
            device = "cuda:0" if gpu and order.device == "cuda" else "cpu"  # Ray shows a task its own GPUs only
            with joined(None if place is None else _launch(place, exchange), device) as ranks:
                outcome = workshop.work(jobs, threads, device, reports.emit, failures, ranks)
                if ranks.world > 1:
                    _raise(outcome)  # so that the others end, too
        except EndedError:  # a rank that has followed
            outcome = Outcome()
        except InterruptedRunError as error:
            outcome = Outcome(signal=error.code - 128)
        except Exception as error:
            outcome = Outcome(ended=portable(error))
    if outcome.signal == signal.SIGTERM:
        os._exit(1)  # the node is going down, and a checkpoint is taken: Ray makes the task again on another one
    outcome.where, outcome.events = here, reports.rest()
    return outcome


def _raise(outcome: Outcome) -> None:
    if outcome.ended is not None:
        raise outcome.ended
    if outcome.signal:
        raise InterruptedRunError("interrupted", outcome.signal)


def restored(before: Iterable[Outcome], workshop: Workshop) -> Failures:
    """The failures of what a task's jobs are made from."""
    failures, known = Failures(), set[tuple[str, tuple[int, ...]]]()
    for outcome in before:
        for (digest, seeds, arms), error in outcome.failed:
            if (digest, seeds) not in known:
                known.add((digest, seeds))
                failures.add(Job(workshop.specs[digest], seeds, arms), error)
    for spec in (
        workshop.specs.values() if known else ()
    ):  # parents first, so that all that follows is known to fail, too
        for seed in spec.seeds(workshop.experiment.recipe.seeds) or (-1,):
            failures.blocks(spec, seed)
    return failures


def _failure(failure: Failure) -> tuple[JobKey, Exception]:
    job = failure.job
    return (job.spec.digest, job.seeds, job.arms), portable(failure.error)


def program() -> str:
    """The versions that all processes of a run have in common."""
    return " ".join(f"{name} {version}" for name, version in environment().items())


def plan_hash(experiment: Experiment) -> str:
    """Equal for experiments with equal keys."""
    return digest_of([spec.digest for spec in experiment.specs()])


def node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _check_mark(order: WorkOrder, at: str) -> None:
    """Raise StoreError when this node does not see the driver's file in the store within a minute."""
    name, content = order.mark
    path, deadline = order.store / "tmp" / name, time.monotonic() + (VISIBLE_S if order.store.is_dir() else ABSENT_S)
    while True:
        try:
            if path.read_text() == content:
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise StoreError(
                f"{order.store}: {at} does not see it: all nodes need the same store; put it on a file system that "
                "they share, with --store"
            )
        time.sleep(0.2)


def _launch(place: tuple[int, int, str], exchange: Any) -> Launch:
    """A rank's place: rank 0 chooses a free port of its node, and posts it."""
    import ray

    rank, world, name = place
    address: tuple[str, int] | None
    if rank == 0:
        with socket.socket() as opened:
            opened.bind(("", 0))
            address = (ray.util.get_node_ip_address(), opened.getsockname()[1])
        exchange.post.remote(name, address)
    else:
        deadline = time.monotonic() + JOIN_S
        while (address := ray.get(exchange.read.remote(name))) is None:
            if time.monotonic() > deadline:
                raise RanksError(f"rank {rank} of {world}: rank 0 was not started in {JOIN_S:.0f} s")
            time.sleep(0.1)
    return Launch(rank, world, 0, *address)
