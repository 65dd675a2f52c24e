from __future__ import annotations

import pytest
import torch

from collapse_sim.core.machine import SMALL_STEP_OPERATIONS, Device
from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.keeping import seeds_to_come
from collapse_sim.recipe.loader import load
from collapse_sim.run import process_count
from collapse_sim.run.process_count import Situation, number, processes, usable_cores
from tests.conftest import Sandbox, changed
from tests.pruned import TOY, VAE

BUSY = Situation(cpu=True, cores=4, threads=1, chains=12, room=20, seconds=60.0)


@pytest.mark.parametrize(
    ("situation", "pays", "asked"),
    [
        (BUSY, 4, 4),
        (BUSY._replace(cpu=False), 1, 1),
        (BUSY._replace(cores=1), 1, 1),
        (BUSY._replace(cores=64), 8, 8),
        (BUSY._replace(threads=2), 2, 2),
        (BUSY._replace(threads=3), 1, 1),
        (BUSY._replace(threads=4), 1, 1),
        (BUSY._replace(chains=3), 3, 3),
        (BUSY._replace(chains=0), 1, 1),
        (BUSY._replace(room=2), 2, 2),
        (BUSY._replace(room=0), 1, 1),
        (BUSY._replace(seconds=20.0), 4, 4),
        (BUSY._replace(seconds=19.9), 1, 4),
        (BUSY._replace(free=False), 1, 4),
    ],
)
def test_how_many_pay_and_how_many_make_sense(situation, pays, asked):
    assert number(situation) == pays
    assert number(situation, pays=False) == asked


@pytest.fixture
def decide(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """The decision for a recipe, with four cores."""
    monkeypatch.setattr(process_count, "usable_cores", lambda: 4)
    monkeypatch.setattr(process_count, "room", lambda experiment: 20)

    def decided(text: str, asked: int | None = None, *, device: str = "cpu", free: bool = True, **environment: str):
        experiment = prepare(load(sandbox.recipe(text)), sandbox.root / "data")
        missing = seeds_to_come(experiment, sandbox.root / ".store")
        of = Device(torch.device(device), threads=4)
        return processes(asked, experiment, of, missing, environment, free=free)

    return decided


LONG = changed(VAE, ("steps: 4", "steps: 9000"), ("seeds: [0]", "seeds: [0, 1]"))


def test_it_is_decided_from_the_plan(decide):
    """Arms x seeds, and updates of a millisecond at least."""
    assert decide(LONG) == 4
    assert decide(changed(LONG, ("seeds: [0, 1]", "seeds: [0]"))) == 2
    assert decide(changed(LONG, ("steps: 9000", "steps: 900"))) == 1
    assert decide(changed(LONG, ("steps: 9000", "steps: 900")), 0) == 4
    assert decide(TOY) == 1
    assert decide(LONG, 3) == decide(TOY, 3) == 3
    assert decide(LONG, 1) == 1


def test_it_is_not_decided_against_what_somebody_has_asked_for(decide):
    assert decide(LONG, OMP_NUM_THREADS="1") == 1
    assert decide(LONG, 0, OMP_NUM_THREADS="1") == 4
    assert decide(LONG, free=False) == 1
    assert decide(LONG, device="cuda") == decide(LONG, 0, device="cuda") == 1
    assert decide(LONG, 2, device="cuda") == 2


def test_large_steps_take_all_cores_of_one_process(decide, monkeypatch):
    monkeypatch.setattr(process_count, "operations_per_step", lambda experiment: SMALL_STEP_OPERATIONS)
    assert decide(LONG, 0) == 1


def test_what_is_stored_is_not_counted(decide, sandbox):
    text = changed(VAE, ("seeds: [0]", "seeds: [0, 1]"))
    assert decide(text, 0) == 4
    sandbox.run(text)
    assert decide(text, 0) == 1
    assert decide(changed(text, ("seeds: [0, 1]", "seeds: [0, 1, 2]")), 0) == 2


def test_cores_of_the_container(tmp_path, monkeypatch):
    monkeypatch.setattr(process_count.os, "sched_getaffinity", lambda pid: range(6))
    monkeypatch.setattr(process_count, "QUOTA", tmp_path / "cpu.max")
    assert usable_cores() == 6
    for text, cores in (("max 100000\n", 6), ("250000 100000\n", 2), ("50000 100000\n", 1), ("900000 100000\n", 6)):
        process_count.QUOTA.write_text(text)
        assert usable_cores() == cores
