"""The driver with tasks that this process makes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.run.ray_orders import RECIPE, TOY, order_for, scores

pytest.importorskip("ray", reason="the package ray is not installed: pip install 'collapse-sim[ray]'")

from ray.exceptions import WorkerCrashedError

from collapse_sim.core.errors import DivergedError, RanksError, StoreError
from collapse_sim.core.events import JobFailed
from collapse_sim.core.machine import open_device
from collapse_sim.core.ranks import Ranks
from collapse_sim.engine.work import JobContext, Stop
from collapse_sim.plan.keeping import Pruning
from collapse_sim.run import ray_executor
from collapse_sim.run.loop import run_generations
from collapse_sim.run.ray_messages import Outcome
from collapse_sim.run.ray_worker import Workshop, restored
from collapse_sim.store.mirror import Mirror, Unmirrored
from collapse_sim.store.run_writer import RunWriter
from collapse_sim.store.store import Store


class TasksHere:
    """Tasks that this process makes, each when it is asked for what has finished. `answer`: what comes of a kind."""

    answer: Callable[[str], object] = staticmethod(lambda kind: None)
    asked_to_stop = False

    def __init__(self, order, ranks: int, *, several_gpus: bool = False) -> None:
        self._workshop, self._queue, self._outcomes = Workshop(order), [], {}
        self.jobs: list[tuple] = []
        TasksHere.asked_to_stop = False

    def __len__(self) -> int:
        return len(self._queue)

    def submit(self, number, jobs, need, after, before, *, ranked) -> None:
        self._queue.append((number, jobs, after, before))
        self.jobs += [(digest, seeds) for digest, seeds, _ in jobs]

    def finished(self, wait_s: float) -> list:
        if not self._queue:
            return []
        number, jobs, after, before = self._queue.pop(0)
        known = [*before, *(self._outcomes[parent] for parent in after if parent in self._outcomes)]
        answer = self.answer(self._workshop.specs[jobs[0][0]].kind)
        if answer is None:
            answer = self._work(jobs, known)
        elif isinstance(answer, DivergedError):
            (job, error), (digest, seeds, arms) = (jobs[0], answer), jobs[0]
            answer = self._work([(digest, tuple(seed for seed in seeds if seed not in error.seeds), arms)], known)
            answer.failed.append((job, error))
        if isinstance(answer, Outcome):
            self._outcomes[number] = answer
        return [(number, [answer])]

    def _work(self, jobs, known) -> Outcome:
        return self._workshop.work(jobs, 1, "cpu", lambda event: None, restored(known, self._workshop), Ranks())

    def reports(self) -> list:
        return []

    def stop(self) -> None:
        TasksHere.asked_to_stop = True
        self._queue.clear()

    def kill(self) -> None:
        self._queue.clear()


class Dying(TasksHere):
    """Of generation 0, seed 0's rows have no outcome; as on Ray, nor has what awaits them when it is submitted."""

    def __init__(self, order, ranks: int, *, several_gpus: bool = False) -> None:
        super().__init__(order, ranks)
        self._attempts: dict[int, object] = {}  # the last one, by number of the node
        self._awaited: dict[int, set[object]] = {}
        self._lost: set[object] = set()

    def submit(self, number, jobs, need, after, before, *, ranked) -> None:
        self._attempts[number] = object()
        self._awaited[number] = {self._attempts[queued] for queued, *_ in self._queue if queued in after}
        super().submit(number, jobs, need, after, before, ranked=ranked)

    def finished(self, wait_s: float) -> list:
        if self._queue:
            number, jobs, *_ = self._queue[0]
            spec = self._workshop.specs[jobs[0][0]]
            dies = (spec.kind, spec.generation, jobs[0][1]) == ("samples", 0, (0,))
            if dies or not self._lost.isdisjoint(self._awaited[number]):
                self._queue.pop(0)
                self._lost.add(self._attempts[number])
                return [(number, [WorkerCrashedError()])]
        return super().finished(wait_s)


@pytest.fixture
def drive(sandbox, monkeypatch):
    """Run the loop with the driver; the tasks come to what `answer(kind)` says."""
    monkeypatch.chdir(sandbox.root)
    monkeypatch.setattr(ray_executor, "alive", set)

    def run(
        answer: Callable[[str], object] = lambda kind: None,
        text: str = TOY,
        together: int = 1,
        tasks=TasksHere,
        mirror: Mirror | None = None,
    ):
        monkeypatch.setattr(ray_executor, "Tasks", tasks)
        monkeypatch.setattr(TasksHere, "answer", staticmethod(answer))
        experiment, order = order_for(sandbox, text)
        order = replace(order, together=together)
        events: list[object] = []
        store = Store(order.store, Stop().check)
        store.mirror = mirror or store.mirror
        context = JobContext(store, open_device("cpu"), events.append, order.data_dir, group_size=together)
        missing = Pruning(experiment, store.root, {}, store.missing).to_make()
        executor = ray_executor.RayExecutor(experiment, context, order, missing, {})
        run.executor, run.store, run.events, run.experiment = executor, store, events, experiment
        with executor:
            return run_generations(experiment, RunWriter(sandbox.root / "run"), context, executor=executor)

    return run


def test_the_loop_finds_what_tasks_have_made_once_each(drive, sandbox):
    total = drive()
    jobs = drive.executor._tasks.jobs
    assert len(jobs) == len(set(jobs))
    made_by_tasks = sandbox.artefacts()
    sandbox.root.joinpath(".store").rename(sandbox.root / "first")
    plain = sandbox.run(TOY, "plain")
    assert made_by_tasks == sandbox.artefacts()
    assert total == {"made": plain["made"]}
    assert scores(sandbox.root / "run") == scores(sandbox.root / "plain")
    sandbox.root.joinpath(".store").rename(sandbox.root / "second")
    sandbox.root.joinpath("first").rename(sandbox.root / ".store")
    assert drive() == {"reused": plain["made"]}
    assert drive.executor._tasks.jobs == []


def test_a_chain_that_diverged_in_a_task_has_nan_and_nothing_is_made_from_it(drive, sandbox):
    drive(lambda kind: DivergedError("not finite", (1,)) if kind == "samples" else None)
    values = [own["test_loss"] for (_, k), own in scores(sandbox.root / "run").items() if k == 1]
    assert all(isinstance(one[1], str) or math.isnan(one[1]) for one in values)
    failed = drive.store.failures.diverged()
    assert failed
    assert {failure.seeds for failure in failed} == {(1,)}


def test_a_task_whose_process_dies_again_and_again_fails_alone(drive, sandbox):
    drive(lambda kind: WorkerCrashedError() if kind == "scores" else None)
    failed = drive.store.failures.others()
    assert failed
    assert all(isinstance(failure.error, RanksError) for failure in failed)
    assert "its process ended 4 times" in failed[0].message
    assert {event.kind for event in drive.events if isinstance(event, JobFailed)} == {"scores"}
    kinds = {spec.kind for spec in drive.experiment.specs() if not drive.store.missing(spec, (0, 1))}
    assert kinds == {"data", "fit", "samples"}


def test_of_a_group_that_awaits_a_lost_task_the_others_are_made(drive):
    """Both seeds are fitted together; only seed 0 of generation 1 has no rows to be fitted to."""
    drive(text=RECIPE.replace("STEPS", "2"), together=2, tasks=Dying)
    (failed,) = drive.store.failures.others()
    assert (failed.job.spec.kind, failed.generation, failed.seeds) == ("samples", 0, (0,))
    last = [spec for spec in drive.experiment.specs() if spec.generation == 1]
    assert {spec.kind: drive.store.missing(spec, (0, 1)) for spec in last} == {
        "fit": (0,), "samples": (0,), "scores": (0,),
    }  # fmt: skip


def test_scores_that_this_machine_does_not_see_yet_are_awaited(drive, sandbox, monkeypatch):
    """A network file system shows what another one has made after some seconds."""
    seen = Store.present
    early = iter([True, True])

    def present(self, digest):
        return set() if next(early, False) else seen(self, digest)

    waited = []
    monkeypatch.setattr(Store, "present", present)
    monkeypatch.setattr(ray_executor.time, "sleep", waited.append)
    drive()
    assert waited == [ray_executor.WAIT_S] * 2
    assert {k for _, k in scores(sandbox.root / "run")} == {0, 1}


class Asked(Unmirrored):
    """A mirror that has nothing."""

    def __init__(self) -> None:
        self.last: list[int] = []  # generation of each question

    def fetch(self, requests, missing, emit, *, locked=False) -> None:
        if requests:
            self.last.append(max(request.spec.generation for request in requests))


@pytest.mark.parametrize(("keep", "asked"), [("", [3]), ("keep_samples: last\n", [1, 2, 3])])
def test_a_run_that_prunes_fetches_a_generation_when_tasks_may_make_it(drive, keep, asked):
    mirror = Asked()
    drive(text=TOY.replace("generations: 1\n", f"generations: 3\n{keep}"), mirror=mirror)
    assert mirror.last == asked


def test_on_nodes_with_several_gpus_no_process_has_two_gpu_tasks():
    """Ray chooses a task's GPU by a variable that CUDA reads once in a process."""
    from collapse_sim.plan.needs import Resources
    from collapse_sim.run.ray_tasks import Tasks

    tasks = object.__new__(Tasks)
    tasks._one, tasks._on_gpu = "any process", "one of its own"
    for several, need, expected in (
        (True, Resources(1, 1), "one of its own"),
        (True, Resources(1, 0), "any process"),
        (False, Resources(1, 1), "any process"),
    ):
        tasks._several_gpus = several
        assert tasks._task(need) == expected


def test_what_ends_the_run_ends_it_and_asks_the_other_tasks_to_stop(drive):
    with pytest.raises(StoreError, match="the disk is full"):
        drive(lambda kind: Outcome(ended=StoreError("the disk is full")) if kind == "fit" else None)
    assert TasksHere.asked_to_stop
