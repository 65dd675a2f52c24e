"""The driver with tasks that this process makes; and, slow, on a cluster of two nodes of one CPU each."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from collapse_sim.run.ray_cluster import QUIET
from tests.commands import Start, commands
from tests.conftest import artefacts
from tests.run.ray_orders import TOY, order_for

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

ROOT = Path(__file__).parents[2]
RECIPE = """
name: nodes
data: {use: digits, rows: 60, held_out_rows: 20}
model: {use: vae, hidden: 16, latent: 2}
train: {steps: STEPS, batch_size: 32, evaluate: never}
samples: 40
generations: 1
seeds: [0, 1]
arms: {replace: {data: replace}}
metrics: [test_loss]
"""
NODE = """
import sys, time
from ray.cluster_utils import Cluster

def tried(action):
    for left in (3, 2, 1, 0):  # Ray gives a node 15 s, too few on a busy machine
        try:
            return action()
        except Exception:
            if not left:
                raise

size = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
cluster = tried(lambda: Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False}))
second = tried(lambda: cluster.add_node(**size))
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "remove\\n":
        cluster.remove_node(second, allow_graceful=False)
    else:
        second = tried(lambda: cluster.add_node(**size))
    print("done", flush=True)
cluster.shutdown()
"""


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


class TwoNodes:
    """A cluster in a process of its own."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | QUIET
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", NODE], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.address = self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def change(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        assert self._answer() == "done"

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    cluster = TwoNodes()
    assert cluster.address, "the cluster did not start"
    yield cluster
    cluster.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `collapse-sim run` in the test's folder."""
    with commands(tmp_path, "-m", "collapse_sim", "run") as start:
        yield start


def recipe(folder: Path, steps: int, text: str = RECIPE) -> Path:
    path = folder / f"{steps}.yaml"
    path.write_text(text.replace("STEPS", str(steps)).lstrip())
    return path


def journal(run: Path, event: str) -> list[dict]:
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def scores(run: Path) -> dict[tuple, object]:
    return {(line["arm"], line["generation"]): line["metrics"] for line in journal(run, "scores")}


def made(run: Path) -> int:
    return sum(sum(line["made"].values()) for line in journal(run, "generation"))


def until_checkpoints(process: subprocess.Popen, store: Path, count: int) -> None:
    """Wait until so many fits have one."""
    deadline = time.monotonic() + 300
    while len({path.parent for path in store.glob("partial/*/step-*.json")}) < count:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.slow
def test_numbers_and_bytes_are_those_of_a_plain_run_and_each_artefact_is_made_once(start, tmp_path, nodes):
    words = ("quickstart", "--smoke", "--seed", 0, "--seed", 1)
    process = start(*words, "--out", "ray", "--store", "store", "--on", f"ray:{nodes.address}")
    printed, said = process.communicate(timeout=500)
    assert process.returncode == 0, said
    assert printed == "ray\n"
    assert "Ray: 2 nodes, 2 CPUs" in said
    assert start(*words, "--out", "plain", "--store", "undisturbed").wait(500) == 0
    assert artefacts(tmp_path / "store") == artefacts(tmp_path / "undisturbed")
    assert scores(tmp_path / "ray") == scores(tmp_path / "plain")
    assert made(tmp_path / "ray") == made(tmp_path / "plain")
    tokens = {path.name for path in (tmp_path / "store" / "locks").iterdir()}
    assert not [name for name in tokens if not name.startswith("active-")]


@pytest.mark.slow
def test_a_node_that_is_removed_in_mid_run_loses_nothing(start, tmp_path, nodes):
    steps = recipe(tmp_path, 3000)
    process = start(
        steps, "--out", "ray", "--store", "store", "--checkpoint-seconds", 0.2, "--on", f"ray:{nodes.address}"
    )
    try:
        until_checkpoints(process, tmp_path / "store", 2)
        nodes.change("remove")
        printed, said = process.communicate(timeout=500)
    finally:
        nodes.change("add")
    assert process.returncode == 0, said
    assert printed == "ray\n"
    assert "is gone: its tasks are run on the others" in said
    assert start(steps, "--out", "plain", "--store", "undisturbed").wait(500) == 0
    assert artefacts(tmp_path / "store") == artefacts(tmp_path / "undisturbed")
    assert scores(tmp_path / "ray") == scores(tmp_path / "plain")


@pytest.mark.slow
def test_a_stop_takes_checkpoints_on_all_nodes_and_a_plain_run_continues_from_them(start, tmp_path, nodes):
    steps = recipe(tmp_path, 8000)
    on = ("--on", f"ray:{nodes.address}", "--checkpoint-seconds", 1000)
    process = start(steps, "--out", "run", "--store", "store", *on)
    deadline = time.monotonic() + 300
    live = tmp_path / "run" / "live.json"
    while not live.is_file() or len(json.loads(live.read_text()).get("on_nodes", {})) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 143, said
    assert "interrupted; everything finished is kept; to continue:" in said
    assert len(list((tmp_path / "store").glob("partial/*/step-*.json"))) >= 2
    assert start(steps, "--out", "run", "--store", "store").wait(500) == 0
    assert start(steps, "--out", "plain", "--store", "undisturbed").wait(500) == 0
    assert artefacts(tmp_path / "store") == artefacts(tmp_path / "undisturbed")


@pytest.mark.slow
def test_a_chain_that_diverges_ends_with_code_4_and_the_others_are_finished(start, tmp_path, nodes):
    bad = "bad: {data: accumulate, train: {steps: 20, batch_size: 32, evaluate: never, learning_rate: 1.0e+30}}"
    text = RECIPE.replace("{replace: {data: replace}}", f"{{good: {{data: replace}}, {bad}}}")
    process = start(recipe(tmp_path, 20, text), "--out", "run", "--store", "store", "--on", f"ray:{nodes.address}")
    _, said = process.communicate(timeout=500)
    assert process.returncode == 4, said
    assert "diverged" in said
    values = {name: own["test_loss"] for (name, k), own in scores(tmp_path / "run").items() if k == 1}
    assert all(isinstance(value, float) for value in values["good"])


@pytest.mark.slow
def test_ranks_in_a_placement_group_make_each_fit_together(start, tmp_path, nodes):
    steps = recipe(tmp_path, 20, RECIPE.replace("[0, 1]", "[0]"))
    process = start(steps, "--out", "run", "--store", "store", "--on", f"ray:{nodes.address}", "--ranks", 2)
    _, said = process.communicate(timeout=500)
    assert process.returncode == 0, said
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "store").glob("objects/*/*/*/manifest.json")]
    ranks = {(manifest["kind"], manifest["machine"].get("ranks")) for manifest in manifests}
    assert ranks == {("data", None), ("fit", 2), ("samples", None), ("scores", None)}
    assert start(steps, "--out", "plain", "--store", "undisturbed").wait(500) == 0
    ours, plain = scores(tmp_path / "run"), scores(tmp_path / "plain")
    assert {place: own["test_loss"] for place, own in ours.items()} == {
        place: pytest.approx(own["test_loss"], abs=1e-4) for place, own in plain.items()
    }


DEADLY = """
import os
from typing import ClassVar
from collapse_sim.core.component import Component

class Deadly(Component):
    kinds: ClassVar[None] = None
    needs: ClassVar[tuple[str, ...]] = ("model",)
    better: ClassVar[None] = None

    def check(self, info, family, samples):
        pass

    def score(self, evaluation):
        if evaluation.generation == 1:
            os._exit(1)
        return 1.0
"""


@pytest.mark.slow
def test_a_plugin_that_kills_its_process_ends_no_other_cell(start, tmp_path, nodes):
    (tmp_path / "deadly.py").write_text(DEADLY)
    text = RECIPE.replace("[test_loss]", "[test_loss, {use: 'deadly:Deadly', as: deadly}]").replace("[0, 1]", "[0]")
    process = start(recipe(tmp_path, 20, text), "--out", "run", "--store", "store", "--on", f"ray:{nodes.address}")
    _, said = process.communicate(timeout=500)
    assert process.returncode == 3, said
    assert "generation 1, seed 0: its process ended 4 times" in said
    known = scores(tmp_path / "run")
    assert {(k, name) for (_, k), own in known.items() for name in own} == {
        (0, "test_loss"), (0, "deadly"), (1, "test_loss"),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--ranks", 3), 3, "this run needs 3 processes of 1 CPU each at the same time; the cluster has room for 2"),
        (("--ensemble", 2, "--ranks", 2), 2, "--ensemble 2: fits that are computed together are one process's"),
    ],
)
def test_what_the_cluster_cannot_do_is_refused_before_anything_is_made(start, tmp_path, nodes, more, code, message):
    process = start(recipe(tmp_path, 20), "--out", "run", "--store", "store", "--on", f"ray:{nodes.address}", *more)
    _, said = process.communicate(timeout=300)
    assert process.returncode == code, said
    assert message in said
    assert not (tmp_path / "run" / "run.json").exists()
