"""The driver's half of a run on Ray: submit the jobs of the whole plan, take their outcomes, and tell what happens.

The generation loop asks for one stage after another; tasks run ahead of it as far as their inputs are made. A task's
inputs are references to the outcomes of the tasks that make them, so Ray starts it when these are there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from ray.exceptions import RayError

from collapse_sim.core.errors import CollapseSimError, OutOfMemoryError, RanksError, StoreError
from collapse_sim.core.events import Emit, JobFailed, JobFinished, JobProgress, JobStarted, Note, OnNode
from collapse_sim.core.joining import VISIBLE_S
from collapse_sim.core.memory_errors import first_line
from collapse_sim.engine.groups import grouping
from collapse_sim.engine.work import JobContext
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.frontier import Frontier
from collapse_sim.plan.job_graph import JobGraph, JobNode, Key
from collapse_sim.plan.needs import fits_network, need_of
from collapse_sim.run.executing import Here
from collapse_sim.run.ray_cluster import alive
from collapse_sim.run.ray_messages import JobKey, NodeReport, Outcome, WorkOrder
from collapse_sim.run.ray_tasks import RETRIES, Tasks
from collapse_sim.store.blocks import recorded_blocks
from collapse_sim.store.failures import missing_of
from collapse_sim.store.jobs import Job, Request, merge, split, where
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import one_by_one
from collapse_sim.store.waiting import NO_WORK, Meanwhile

WINDOW = 2000  # tasks that are submitted and not finished
AHEAD = 1  # generations that tasks run ahead of the loop, in a run that prunes
WAIT_S = 0.1  # between two looks at events and signals
NODES_S = 2.0  # between two looks at the nodes
CHECKPOINT_S = 120.0  # for tasks that were asked to stop


class RayExecutor:
    """Makes what the loop asks for by tasks. Leaving the context with an error asks the tasks that are under way to
    take a checkpoint, and waits for them."""

    def __init__(
        self,
        experiment: Experiment,
        context: JobContext,
        order: WorkOrder,
        missing: Mapping[str, Iterable[int]],
        names: Mapping[str, str],
        *,
        cpus: int = 1,
        ranks: int = 1,
        several_gpus: bool = False,
    ) -> None:
        """`missing`: {digest: seeds} of what is to be made; `names` of nodes, by id; `cpus` of a fit; `ranks`: how many
        processes make each fit together; `several_gpus`: some node has them."""
        self._context, self._here, self._device = context, Here(context), order.device
        self._cpus, self._names = cpus, names
        self._specs = {spec.digest: spec for spec in experiment.specs()}
        self._experiment = experiment
        self._generation = 0  # of the loop
        self._unasked = dict(missing)  # what the mirror is asked for when its generation comes
        self._graph = JobGraph(experiment)
        group = partial(_grouped, context=context)
        missing_seeds = {digest: set(seeds) for digest, seeds in missing.items()}
        self._graph.plan(missing_seeds, partial(recorded_blocks, context.store.root), group)
        self._ranks = ranks
        self._frontier = Frontier(self._graph.nodes, self._is_ranked)
        self._tasks = Tasks(order, ranks, several_gpus=several_gpus)
        self._failed: dict[int, list[tuple[JobKey, Exception]]] = {}  # of finished nodes
        self._awaited: dict[int, list[int]] = {}  # parents whose outcomes a submitted node gets
        self._lost: set[int] = set()  # nodes without an outcome, at least once
        self._known: set[tuple[str, tuple[int, ...]]] = set()  # failures that the store's list has
        self._made: dict[str, set[int]] = {}  # by tasks, and not counted yet: digest -> seeds
        self._tries: Counter[int] = Counter()
        self._ended: Exception | None = None
        self._alive, self._looked = set(names), time.monotonic()

    # -- the loop's side ------------------------------------------------------------------------------------------

    def make_all(self, requests: Sequence[Request], emit: Emit, meanwhile: Meanwhile | None = NO_WORK) -> Counter[str]:
        """`meanwhile` is not used: tasks go on while the loop waits."""
        requests = merge(requests)
        self._generation = max([self._generation, *(request.spec.generation for request in requests)])
        self._unasked = fetch(self._experiment, self._context, self._unasked, self._generation)
        self._discover(requests)
        maker = self._graph.maker
        wanted = {maker[key] for request in requests for key in _keys(request) if key in maker}
        while not wanted <= self._frontier.finished:
            self._context.stop.check()
            self._turn()
        counts: Counter[str] = Counter()
        rest = []
        for request in requests:
            keys = [seed for _, seed in _keys(request)]
            made = self._made.get(request.spec.digest, set()).intersection(keys)
            self._made.get(request.spec.digest, set()).difference_update(made)
            counts["made"] += len(made)
            self._see(request.spec, made)
            store = self._context.store
            store.mirror.push(store.block(request.spec, seed).folder for seed in made)
            if left := [seed for seed in keys if seed not in made]:
                rest.append(Request(request.spec, tuple(left) if request.spec.seeded else request.seeds, request.arms))
        return counts + self._here.make_all(rest, emit)

    def _see(self, spec: Spec, made: set[int]) -> None:
        """Wait until this machine sees what tasks on others have made; it would be left out of the journal."""
        deadline = time.monotonic() + VISIBLE_S
        while not made <= self._context.store.present(spec.digest) and time.monotonic() < deadline:
            self._context.stop.check()
            time.sleep(WAIT_S)

    def _discover(self, requests: Sequence[Request]) -> None:
        """Plan what is missing unexpectedly: damaged artefacts, and what was pruned and is needed again."""
        store = self._context.store
        for request in requests:
            spec = request.spec
            unplanned = [seed for digest, seed in _keys(request) if (digest, seed) not in self._graph.maker]
            missing = store.missing(spec, unplanned, self._context.emit) if unplanned else ()
            missing = missing_of(spec, missing, store.failures)
            recorded = recorded_blocks(store.root, spec.digest) if missing else ()
            self._graph.add(list(split(request, missing, recorded)), one_by_one)
        self._frontier.extend()

    # -- tasks ----------------------------------------------------------------------------------------------------

    def _is_ranked(self, node: JobNode) -> bool:
        return self._ranks > 1 and len(node.jobs) == 1 and fits_network(node.jobs[0].spec)

    def _turn(self) -> None:
        """Submit what can be, tell what has happened, and take outcomes, for a tenth of a second. Raises what ends the
        run."""
        last = last_of(self._experiment, self._generation)
        while len(self._tasks) < WINDOW and (number := self._frontier.pop(last)) is not None:
            self._submit(number)
        self._take(WAIT_S)
        self._look_at_nodes()
        if self._ended is not None:
            raise self._ended

    def _look_at_nodes(self) -> None:
        """Say which nodes are gone."""
        if time.monotonic() - self._looked < NODES_S:
            return
        self._looked = time.monotonic()
        gone = self._alive - alive()
        self._alive -= gone
        for node in sorted(gone):
            self._context.emit(Note(f"node {self._names[node]} is gone: its tasks are run on the others"))

    def _submit(self, number: int) -> None:
        node = self._graph.nodes[number]
        failed = [failure for parent in node.after for failure in self._failed.get(parent, ())]
        if all(self._context.store.failures.blocks(self._specs[digest], seed) for digest, seed in node.keys):
            self._failed[number] = failed
            self._frontier.finish(number)
            return
        self._awaited[number] = [parent for parent in node.after if parent not in self._frontier.finished]
        jobs: list[JobKey] = [(job.spec.digest, job.seeds, job.arms) for job in node.jobs]
        need = need_of(node.jobs, self._device, self._cpus)
        before = [Outcome(failed=failed)] if failed else []
        self._tasks.submit(number, jobs, need, node.after, before, ranked=self._is_ranked(node))

    def _take(self, wait_s: float) -> None:
        finished = self._tasks.finished(wait_s)
        for report in self._tasks.reports():
            self._tell(report)
        for number, outcomes in finished:
            self._finish(number, outcomes)

    def _finish(self, number: int, outcomes: Sequence[Outcome | RayError]) -> None:
        """`outcomes` of a node's processes, rank 0 first."""
        node, stopping = self._graph.nodes[number], self._context.stop.wanted or self._ended is not None
        lost = next((outcome for outcome in outcomes if isinstance(outcome, RayError)), None)
        own = [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
        for outcome in own:
            self._tell(NodeReport(*outcome.where, outcome.events))
            for (digest, seeds, arms), error in outcome.failed:
                self._fail(Job(self._specs[digest], seeds, arms), error)
            for digest, seed in outcome.made:
                self._made.setdefault(digest, set()).add(seed)
        if lost is not None and not stopping and not self._lost.isdisjoint(self._awaited[number]):
            self._lost.add(number)  # for what awaits this attempt
            self._submit(number)  # what does not depend on the lost parent is made
            return
        again = (lost is not None and len(outcomes) > 1) or any(outcome.signal for outcome in own)
        if again and not stopping and self._tries[number] < RETRIES:
            self._tries[number] += 1
            self._submit(number)
            return
        ended = [outcome.ended for outcome in own if outcome.ended is not None]
        if lost is None and ended and not stopping:
            self._ended = min(
                ended, key=lambda error: isinstance(error, RanksError)
            )  # which only says that others failed
        failed = [failure for outcome in own for failure in outcome.failed]
        if lost is not None and not stopping:
            self._lost.add(number)
            failed += [failure for job in node.jobs for failure in self._lose(job, lost)]
        if failed:
            self._failed[number] = failed
        self._frontier.finish(number)

    def _lose(self, job: Job, lost: RayError) -> list[tuple[JobKey, Exception]]:
        """Record that a job's task did not return, since its process or node died again and again. Returns what tasks
        that read its artefact have to know."""
        store = self._context.store
        left = missing_of(job.spec, store.missing(job.spec, job.seeds), store.failures)
        if not left:
            return []
        job = Job(job.spec, job.spec.seeds(left), job.arms)
        text = f"{where(job, job.seeds)}: its process ended {RETRIES + 1} times: {first_line(lost)}"
        error: CollapseSimError = RanksError(text)
        if "OutOfMemory" in type(lost).__name__:
            error = OutOfMemoryError(
                f"{text}; lower train.batch_size or sampling.shard, or use --ranks or larger nodes"
            )
        self._fail(job, error)
        failure = store.failures.cause(job.spec, (job.seeds or (-1,))[0])
        message = failure.message if failure else text
        self._context.emit(
            JobFailed(job.spec.kind, job.spec.digest, job.spec.generation, job.arms, job.seeds, message, False)
        )
        return [((job.spec.digest, job.seeds, job.arms), error)]

    def _fail(self, job: Job, error: Exception) -> None:
        key = (job.spec.digest, job.seeds)
        if key not in self._known:
            self._known.add(key)
            self._context.store.failures.add(job, error)

    def _tell(self, report: NodeReport) -> None:
        """Pass events on, but none of a job's way after its end: reports and outcomes come by different ways."""
        name = self._names.get(report.node, report.node[:8])
        for event in report.events:
            if isinstance(event, JobFinished) and event.reused:
                continue  # the loop tells it when it comes to it
            if isinstance(event, JobStarted | JobProgress):
                maker = self._graph.maker.get((event.digest, event.seeds[0] if event.seeds else -1))
                if maker in self._frontier.finished:
                    continue
            self._context.emit(event if isinstance(event, Note) else OnNode(name, report.process, event))  # type: ignore[arg-type]

    # -- the end --------------------------------------------------------------------------------------------------

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None or isinstance(error, KeyboardInterrupt):
            self._tasks.kill()
            return
        self._ended = self._ended or (error if isinstance(error, Exception) else None)
        self._tasks.stop()
        deadline = time.monotonic() + CHECKPOINT_S
        while len(self._tasks) and time.monotonic() < deadline:
            self._take(WAIT_S)


def last_of(experiment: Experiment, generation: int) -> int | None:
    """The last generation that tasks may make while the loop is at this one; None: any."""
    recipe = experiment.recipe
    return None if recipe.keep_weights == recipe.keep_samples == "all" else generation + AHEAD


def fetch(
    experiment: Experiment, context: JobContext, wanted: Mapping[str, Iterable[int]], generation: int = 0
) -> dict[str, Iterable[int]]:
    """Fetch what the mirror has of what is to be made, {digest: seeds}, up to the last generation that tasks may make
    now. Returns the rest, which is not asked for yet."""
    if not wanted:
        return {}
    last, arms, later = last_of(experiment, generation), experiment.arms_by_digest(), dict(wanted)
    requests = [
        Request(spec, spec.seeds(tuple(sorted(later.pop(spec.digest)))), tuple(arms.get(spec.digest, ())))
        for spec in experiment.specs()
        if spec.digest in later and (last is None or spec.generation <= last)
    ]
    if requests:
        context.store.mirror.fetch(requests, context.store.missing, context.emit)
    return later


def _keys(request: Request) -> list[Key]:
    return [(request.spec.digest, seed) for seed in (request.seeds if request.spec.seeded else (-1,))]


def _grouped(jobs: Sequence[Job], context: JobContext) -> list[Sequence[Job]]:
    """The groups of fits that are computed together. Where rows have weights that no curation has given yet, it is not
    known which: they are computed alone."""
    try:
        return grouping(jobs, context)
    except StoreError:
        return one_by_one(jobs)
