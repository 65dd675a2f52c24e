"""Several processes share a run: one whose turn would be to wait goes on with other chains."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from collapse_sim.core.errors import InterruptedRunError, UnderWayElsewhereError, code_of
from collapse_sim.core.events import Emit
from collapse_sim.core.machine import Device
from collapse_sim.plan.experiment import Experiment, prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.ahead import Ahead
from collapse_sim.run.executing import Here
from collapse_sim.store import waiting
from collapse_sim.store.blocks import object_folder
from collapse_sim.store.jobs import Job, Request
from collapse_sim.store.machine_lock import MachineLock, locked
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store
from collapse_sim.store.waiting import NO_WORK, POLLED, Meanwhile
from collapse_sim.ui.run_status import run_status
from tests.conftest import TINY, Sandbox

RECIPE = TINY.replace("{steps: 20", "{precision: fp32, steps: 20")
KEPT = RECIPE.replace("metrics:", "keep_weights: last\nkeep_samples: last\nmetrics:")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A run that no other process disturbed."""
    sandbox = Sandbox(tmp_path_factory.mktemp("undisturbed"))
    sandbox.run(RECIPE)
    return sandbox


def experiment_of(sandbox: Sandbox, recipe: str = RECIPE) -> Experiment:
    return prepare(load(sandbox.recipe(recipe)), sandbox.root / "data")


def lock_of(sandbox: Sandbox, fit: Spec, seed: int) -> Path:
    folder = sandbox.root / ".store" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{fit.digest}-s{seed}.lock"


def test_what_is_made_while_others_are_awaited_counts_as_made(
    sandbox: Sandbox, undisturbed: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if another process had let go of what the loop asks for: it is made ahead, and the loop finds it."""
    original = Here.make_all

    def eager(self: Here, requests: Sequence[Request], emit: Emit, meanwhile: Meanwhile | None = NO_WORK):
        while meanwhile is not None and meanwhile():
            pass
        return original(self, requests, emit, meanwhile)

    monkeypatch.setattr(Here, "make_all", eager)
    result = sandbox.run(RECIPE)
    assert (result["made"], result["reused"]) == (31, 0)
    assert sandbox.artefacts() == undisturbed.artefacts()


def test_all_but_what_waits_for_another_process_is_made(
    sandbox: Sandbox, undisturbed: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process fits generation 1 of one chain: the three other chains are finished, then the process ends."""
    monkeypatch.setattr(waiting, "GRACE_S", 0.2)
    experiment = experiment_of(sandbox)
    fit = experiment.arm_plans[0].generations[1].fit
    behind = {f"{fit.digest}/s1"}
    for spec in experiment.specs():
        if any(f"{parent.digest}/s1" in behind for parent in spec.parents):
            behind.add(f"{spec.digest}/s1")
    with (
        locked(lock_of(sandbox, fit, 1)),
        pytest.raises(UnderWayElsewhereError, match="fit: replace, generation 1, seed 1, by process") as ended,
    ):
        sandbox.run(RECIPE)
    assert "; this process ends; to wait for the others and go on: " in str(ended.value)
    assert str(ended.value).endswith(" --wait")
    assert run_status(sandbox.root / "run").word == "unfinished"
    whole = undisturbed.artefacts()
    here = sandbox.artefacts()
    assert {name.partition("/")[2] for name in whole.keys() - here.keys()} == behind
    assert len(behind) == 6, "fit, samples and score of two generations"
    result = sandbox.run(RECIPE)
    assert (result["made"], result["reused"]) == (6, len(whole) - 6)
    assert sandbox.artefacts() == whole


def test_what_was_made_ahead_counts_once_and_is_shown_as_made(
    sandbox: Sandbox, undisturbed: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal, the counts and the state of the run are those of a run that nobody disturbed."""
    fit = experiment_of(sandbox).arm_plans[0].generations[0].fit
    lock, made_before = MachineLock(lock_of(sandbox, fit, 1)), list[int]()

    def release(device: Device) -> None:
        made_before.append(len(sandbox.artefacts()))
        lock.release()

    monkeypatch.setattr(Device, "release", release)
    lock.acquire()
    result = sandbox.run(RECIPE)
    assert made_before == [1 + 5 * 3], "the data, and seed 0 of both arms to the end"
    assert (result["made"], result["reused"]) == (31, 0)
    assert sandbox.artefacts() == undisturbed.artefacts()
    for event in ("scores", "generation"):
        mine, others = (
            [{key: value for key, value in line.items() if key not in ("hash", "wall_s", "time")} for line in lines]
            for lines in (sandbox.journal(event=event), undisturbed.journal(event=event))
        )
        assert mine == others
    status = run_status(sandbox.root / "run")
    assert status.word == "finished"
    expected = run_status(undisturbed.root / "run").state
    for arm, cells in expected.cells.items():
        both = zip(status.state.cells[arm], cells, strict=True)
        no_times = {"work_s": 0.0, "fit_s": 0.0}
        assert [replace(mine, **no_times) == replace(other, **no_times) for mine, other in both] == [True] * 3


@pytest.mark.slow
def test_where_artefacts_are_pruned_it_goes_one_generation_ahead(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More would pile up what is to be removed, since only what is complete is removed."""
    experiment = experiment_of(sandbox, KEPT)
    fit = experiment.arm_plans[0].generations[0].fit
    lock, generations = MachineLock(lock_of(sandbox, fit, 1)), set[int]()

    def release(device: Device) -> None:
        here = {name.split("/")[1] for name in sandbox.artefacts()}
        generations.update(spec.generation for spec in experiment.specs() if spec.digest in here)
        lock.release()

    monkeypatch.setattr(Device, "release", release)
    lock.acquire()
    sandbox.run(KEPT)
    assert generations == {-1, 0, 1}


def test_a_chain_that_diverges_ahead_of_the_loop_ends_there(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its failure is told once, and every other chain is finished."""
    recipe = RECIPE.replace("{precision", "{learning_rate: 1.0e+30, precision")
    fit = experiment_of(sandbox, recipe).arm_plans[0].generations[0].fit
    lock = MachineLock(lock_of(sandbox, fit, 1))
    monkeypatch.setattr(Device, "release", lambda device: lock.release())
    lock.acquire()
    result = sandbox.run(recipe)
    assert sorted((chain["generation"], chain["seeds"]) for chain in result["diverged"]) == [(0, [0]), (0, [1])]
    assert [line["seed"] for line in sandbox.journal(event="diverged")] == [0, 1, 0, 1]


def test_ctrl_c_ends_waiting_at_once(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a while, when locks are asked for every 10 s only."""
    monkeypatch.setattr(waiting, "SHORTEST_S", 30.0)
    monkeypatch.setattr(waiting, "LONGEST_S", 30.0)
    data, begun = experiment_of(sandbox).data, list[float]()

    def interrupt() -> None:
        begun.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Device, "release", lambda device: threading.Timer(0.3, interrupt).start())
    folder = sandbox.root / ".store" / "locks"
    folder.mkdir(parents=True)
    with locked(folder / f"{data.digest}-all.lock"), pytest.raises(InterruptedRunError) as stopped:
        sandbox.run(RECIPE)
    assert time.monotonic() - begun[0] < 5, "not 30"
    assert code_of(stopped.value) == 130


def test_a_damaged_artefact_is_made_again_before_something_is_made_from_it(
    sandbox: Sandbox, undisturbed: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ahead of the loop, which has not verified it yet."""
    shutil.copytree(undisturbed.root / ".store", sandbox.root / ".store")
    zeroth, first, _ = experiment_of(sandbox).arm_plans[0].generations
    block = {
        (spec.digest, seed): sandbox.root / ".store" / "objects" / spec.digest[:2] / spec.digest / f"s{seed}"
        for spec in (zeroth.fit, first.fit, first.samples)
        for seed in (0, 1)
    }
    for spec, seed in ((zeroth.fit, 1), (first.samples, 0)):
        shutil.rmtree(block[spec.digest, seed])
    file = next(block[first.fit.digest, 0].glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    lock, repaired = MachineLock(lock_of(sandbox, zeroth.fit, 1)), list[bool]()

    def release(device: Device) -> None:
        repaired.append(block[first.samples.digest, 0].exists())
        lock.release()

    monkeypatch.setattr(Device, "release", release)
    lock.acquire()
    sandbox.run(RECIPE)
    assert repaired == [True]
    assert sandbox.artefacts() == undisturbed.artefacts()


@pytest.fixture
def thirty(sandbox: Sandbox) -> tuple[Ahead, Store, list[tuple[str, int]]]:
    """What can begin once the data is there, fits of generation 0 of thirty seeds; and the locks that were asked for,
    all of which others have."""
    experiment = prepare(load(sandbox.recipe(RECIPE), overrides=["seeds=30"]), sandbox.root / "data")
    store, asked = Store(sandbox.root / ".store"), list[tuple[str, int]]()
    object_folder(store.root, experiment.data.digest).joinpath("all").mkdir(parents=True)
    store.missing = lambda spec, seeds, emit=None: ()  # type: ignore[method-assign]

    def make(requests: Sequence[Request], emit: Emit) -> Counter[str]:
        for request in requests:
            for seed in request.seeds:
                asked.append((request.spec.digest, seed))
                with locked(lock_of(sandbox, request.spec, seed)):
                    assert store.others.lock(Job(request.spec, (seed,), request.arms), emit) is None
        return Counter()

    return Ahead(experiment, store, lambda event: None, make), store, asked


def test_locks_that_others_have_are_asked_for_a_few_at_a_time(
    thirty: tuple[Ahead, Store, list[tuple[str, int]]],
) -> None:
    """Each once, then a few in each round, as the loop does: none is forgotten."""
    ahead, _, asked = thirty
    assert not ahead.work()
    everything = set(asked)
    assert len(asked) == len(everything) == 30
    asked.clear()
    assert not ahead.work()
    assert len(asked) == POLLED
    for _ in range(100):
        ahead.work()
    assert set(asked) == everything


def test_what_another_process_of_this_run_makes_is_left_to_it(
    thirty: tuple[Ahead, Store, list[tuple[str, int]]],
) -> None:
    """Otherwise it would count as something that was there already."""
    ahead, _, asked = thirty
    ahead.elsewhere = {spec.digest for spec in ahead._specs if spec.generation == 0}
    assert not ahead.work()
    assert asked == []
