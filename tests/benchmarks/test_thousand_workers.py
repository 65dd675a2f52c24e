"""The simulation of many workers, where the result is known; and what is counted as an operation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.studies.thousand_workers import Costs, counting, limit_of, simulate
from collapse_sim.store import lease, machine_lock

FREE = Costs(0.0, 0.0, 0.0, 0.0)
REAL = Costs(400.0, 40.0, 14.0, 8.0)
FAST = 1e9


@pytest.mark.parametrize("workers", [1, 10])
def test_with_enough_work_and_a_fast_file_system_all_compute(workers: int) -> None:
    outcome = simulate(workers, 2 * workers, 10.0, FAST, REAL, 0)
    assert outcome.busy > 0.999
    assert limit_of(outcome) == "nothing"


def test_half_as_many_chains_as_workers_leave_half_of_them_without_work() -> None:
    outcome = simulate(10, 5, 10.0, FAST, FREE, 0)
    assert outcome.busy == pytest.approx(0.5, abs=0.01)
    assert outcome.waited == pytest.approx(0.5, abs=0.02)
    assert limit_of(outcome) == "too few jobs that can begin"


def test_a_server_that_is_too_slow_sets_the_pace() -> None:
    """A hundred workers whose jobs of 1 s cost 100 operations each: at 1,000 a second, less the heartbeats, it can
    serve 9.85 jobs a second, so that a tenth of the workers compute."""
    workers, rate = 100, 1000.0
    outcome = simulate(workers, 2 * workers, 1.0, rate, Costs(0.0, 100.0, 0.0, 0.0), 0)
    beats = workers * (1 / machine_lock.BEAT_S + 1 / lease.BEAT_S)
    assert outcome.busy == pytest.approx((rate - beats) / 100 / workers, rel=0.05)
    assert outcome.served > 0.98
    assert outcome.parts["heartbeats"] == pytest.approx(beats / rate, rel=0.05)
    assert limit_of(outcome) == "the file system: made"


def test_what_all_others_make_is_what_limits_many_workers_on_one_run() -> None:
    outcome = simulate(100, 200, 10.0, 5000.0, REAL, 99)
    alone = simulate(100, 200, 10.0, 5000.0, REAL, 0)
    assert limit_of(outcome) == "the file system: met"
    assert alone.busy > 2 * outcome.busy


def test_heartbeats_alone_may_be_too_much() -> None:
    assert simulate(1000, 1000, 1.0, 100.0, REAL, 0).busy == 0


def test_only_operations_below_the_folder_are_counted(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir()
    with counting(inside) as counts:
        for folder in (inside, outside):
            (folder / "a").mkdir()
            (folder / "b").write_text("x")
            (folder / "b").rename(folder / "c")
            os.listdir(folder / "a")  # noqa: PTH208
            (folder / "c").stat()
            (folder / "c").unlink()
    assert counts == {"mkdir": 1, "open": 1, "rename": 1, "listdir": 1, "stat": 1, "unlink": 1}
    (inside / "d").mkdir()
    assert counts["mkdir"] == 1, "counting is over"
