"""The reduction of a run's events."""

from __future__ import annotations

import json
import math

import pytest

from collapse_sim.core.events import (
    JobFailed,
    JobFinished,
    JobProgress,
    JobStarted,
    Note,
    OnNode,
    RunFinished,
    Scored,
    TextSamples,
    Waiting,
)
from collapse_sim.ui.state import State
from tests.ui.conftest import after, started


def test_a_shared_job_counts_for_every_arm_and_only_for_its_seeds():
    state = after(started(), JobFinished("fit", "d", 0, ("a", "b"), (2,), False, 1.0))
    assert [state.stages(state.cells[arm][0]) for arm in ("a", "b")] == [(1, 0, 0), (1, 0, 0)]
    assert state.stages(state.cells["a"][1]) == (0, 0, 0)
    assert state.made == {"fit": 1}


def test_the_same_seed_twice_counts_once_and_no_seeds_means_all():
    fit = JobFinished("fit", "d", 1, ("a",), (1,), False, 1.0)
    state = after(started(), fit, fit, JobFinished("samples", "s", 1, ("a",), (), True, 0.0))
    assert state.stages(state.cells["a"][1]) == (1, 3, 0)


def test_other_seeds_of_the_same_number_are_not_all_seeds():
    state = after(started(seeds=(3, 5)), JobFinished("fit", "d", 1, ("a",), (5, 8), False, 1.0))
    assert state.stages(state.cells["a"][1])[0] == 1


def test_a_cell_is_complete_when_it_is_scored_for_every_seed():
    scored = Scored(0, "a", (0, 1), {"loss": (1.0, 2.0)})
    state = after(started(), scored)
    assert not state.complete(state.cells["a"][0])
    state.apply(Scored(0, "a", (0, 1, 2), {"loss": (1.0, 2.0, 6.0)}), 101.0)
    assert state.complete(state.cells["a"][0])
    assert state.scores["a"]["loss"] == [3.0, None, None]
    assert state.generation() == 0  # arm b is not there yet


def test_score_artefacts_are_one_a_metric_and_seed():
    one = JobFinished("scores", "x", 0, ("a",), (0, 1, 2), False, 1.0)
    state = after(started(metrics=("loss", "fid")), one)
    assert state.stages(state.cells["a"][0])[2] == 1  # three of six, rounded down
    state.apply(one, 101.0)
    assert state.stages(state.cells["a"][0])[2] == 3


def test_found_and_made_are_told_apart():
    state = after(
        started(),
        JobFinished("fit", "d", 0, ("a",), (0, 1), True, 0.0),
        JobFinished("fit", "d", 0, ("a",), (2,), False, 5.0),
    )
    assert (state.cells["a"][0].made, state.cells["a"][0].reused) == (1, 2)
    assert (state.made, state.reused) == ({"fit": 1}, {"fit": 2})


def test_rate_and_time_left_are_counted_from_where_a_job_was_resumed():
    state = after(started(), JobStarted("fit", "d", 1, ("a",), (0,)))
    for now, done in ((110.0, 500), (120.0, 600), (130.0, 700)):
        state.apply(JobProgress("fit", "d", 1, ("a",), (0,), done, 1000, "steps", 99.0, 0.5), now)
    assert state.job is not None
    assert state.job.per_s == pytest.approx(10.0)  # 200 steps in 20 s, not 700 in 30 s
    assert state.job.seconds_left == pytest.approx(30.0)
    assert state.covers("a", 1)
    assert not state.covers("b", 1)
    state.apply(JobFinished("fit", "d", 1, ("a",), (0,), False, 9.0), 131.0)
    assert state.job is None


def test_the_next_seed_of_the_same_key_is_another_job():
    state = after(started(), JobProgress("fit", "d", 1, ("a",), (0,), 900, 1000, "steps"))
    state.apply(JobProgress("fit", "d", 1, ("a",), (1,), 100, 1000, "steps"), 200.0)
    assert state.job is not None
    assert (state.job.seeds, state.job.first_done, state.job.started) == ([1], 100, 200.0)


def test_data_and_networks_belong_to_no_cell():
    state = after(started(), JobFinished("fit", "net", -1, ("a", "b"), (), False, 3.0))
    assert all(state.stages(cell) == (0, 0, 0) for cells in state.cells.values() for cell in cells)
    assert state.made == {"fit": 1}


def test_waiting_ends_with_the_artefact_or_with_other_work():
    state = after(started(), Waiting("fit", "d", 1))
    assert state.waiting == {"kind": "fit", "digest": "d", "generation": 1}
    state.apply(JobFinished("fit", "d", 1, ("a",), (0,), True, 0.0), 101.0)
    assert state.waiting is None


def test_a_new_start_clears_all_but_what_was_said_before_it(tell, reduce):
    state = reduce(tell())
    state.apply(Note("before"), 0.0)
    state.apply(started(), 5.0)
    assert state.outcome is None
    assert state.made == {}
    assert state.notes[-1]["message"] == "before"
    assert state.generation() == 0


def test_show_is_what_the_run_says_else_the_first_metric():
    assert after(started(metrics=("x", "y"), show="y")).show == "y"
    assert after(started(metrics=("x", "y"))).show == "x"


def test_the_end_takes_the_job_away(tell, reduce):
    state = reduce(tell()[:8])
    assert state.job is not None
    state.apply(RunFinished("demo", "runs/demo", 3.0, "interrupted", "why"), 9.0)
    assert (state.job, state.outcome, state.message, state.wall_s) == (None, "interrupted", "why", 3.0)


def test_a_hundred_and_fifty_thousand_events_leave_a_state_of_the_size_of_the_grid():
    seeds = tuple(range(1000))
    state = State()
    state.apply(started(seeds=seeds, arms=("a", "b", "c"), generations=50))
    size = len(json.dumps(state.to_json()))
    for k in range(50):
        for kind in ("fit", "samples", "scores"):
            for seed in seeds:
                state.apply(JobFinished(kind, "d", k, ("a",), (seed,), False, 0.1))  # type: ignore[arg-type]
    assert len(json.dumps(state.to_json())) < 20 * size, "the state grows with the events"
    assert state.stages(state.cells["a"][49]) == (1000, 1000, 1000)


def test_the_latest_texts_of_every_arm_are_kept():
    told = [
        TextSamples(0, "a", ("x", "")),
        TextSamples(0, "b", ("y",)),
        TextSamples(1, "a", ("z\n",)),
        TextSamples(1, "of another run", ("?",)),
    ]
    state = after(started(), *told)
    assert state.texts == {
        "a": {"generation": 1, "texts": ["z\n"]},
        "b": {"generation": 0, "texts": ["y"]},
    }
    content = state.to_json()
    assert State.from_json(content).texts == state.texts
    del content["texts"]  # of a run from before there were texts
    assert State.from_json(content).texts == {}
    for wrong in ([], {"a": []}, {"a": {"generation": "x", "texts": []}}, {"a": {"generation": 1}}):
        with pytest.raises(ValueError, match="state of a run"):
            State.from_json(content | {"texts": wrong})


def test_a_chain_that_diverged_is_marked_from_its_generation_on(draw):
    state = after(
        started(seeds=(0, 1)),
        JobFailed("fit", "d", 1, ("a",), (1,), "a, generation 1, seed 1: the loss became non-finite at step 3", True),
        *(Scored(k, "a", (0, 1), {"loss": (1.0, 1.0 if k == 0 else math.nan)}) for k in range(3)),
    )
    assert [state.diverged("a", k) for k in range(3)] == [0, 1, 1]
    assert State.from_json(json.loads(json.dumps(state.to_json()))).ended == {"a": {1: 1}}
    row, *_ = [line for line in draw(state, 80, 20).split("\n") if line.startswith(" a ")]
    assert row.count("×1") == 2
    assert "diverged: a, generation 1, seed 1" in draw(state, 80, 20)


def test_a_cell_whose_metric_failed_is_not_finished():
    state = after(started(seeds=(0,)), Scored(0, "a", (0,), {"loss": (1.0,)}, complete=False))
    assert not state.complete(state.cells["a"][0])


def on(node: str, process: int, event: object) -> OnNode:
    return OnNode(node, process, event)  # type: ignore[arg-type]


def test_jobs_on_nodes_are_shown_side_by_side_and_count_when_they_are_finished():
    first = JobStarted("fit", "d", 1, ("a",), (1,))
    second = JobProgress("fit", "e", 1, ("b",), (2,), 30, 120, "steps", 10.0, 0.5)
    events = [started(), on("n1", 7, first), on("n2", 7, second)]
    state = after(*events)
    assert {key: (job.digest, job.fraction) for key, job in state.on_nodes.items()} == {
        "n1 7": ("d", 0),
        "n2 7": ("e", 0.25),
    }
    assert state.job is None
    assert state.covers("a", 1)
    assert not state.covers("a", 0)
    state = after(*events, on("n1", 7, JobFinished("fit", "d", 1, ("a",), (1,), False, 1.0)))
    assert list(state.on_nodes) == ["n2 7"]
    assert state.stages(state.cells["a"][1])[0] == 1
    assert state.made == {"fit": 1}
    assert State.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_a_job_that_another_process_takes_up_is_shown_once():
    """The first one died with its node."""
    again = JobStarted("fit", "d", 1, ("a",), (1,))
    events = [started(), on("n1", 7, again), on("n2", 9, again)]
    assert list(after(*events).on_nodes) == ["n2 9"]
    state = after(*events, on("n2", 9, JobFailed("fit", "d", 1, ("a",), (1,), "lost", False)))
    assert state.on_nodes == {}
    assert after(*events, JobFailed("fit", "d", 1, ("a",), (1,), "lost", False)).on_nodes == {}, "said by the driver"
    assert state.notes[-1]["message"] == "failed: lost"


def test_a_run_that_has_ended_has_no_jobs_on_nodes():
    under_way = on("n1", 7, JobStarted("fit", "d", 1, ("a",), (1,)))
    assert after(started(), under_way, RunFinished("x", "runs/x", 1.0, "interrupted")).on_nodes == {}


def test_what_another_process_finishes_of_the_same_fit_does_not_end_this_ones_job():
    """Seeds of one fit are made side by side; a process that waits makes nothing."""
    other = JobStarted("fit", "d", 1, ("a",), (1,))
    state = after(started(), JobStarted("fit", "d", 1, ("a",), (0,)), OnNode("process 2", 2, other))
    state.apply(JobFinished("fit", "d", 1, ("a",), (1,), False, 1.0), 101.0)
    assert state.job is not None
    assert state.job.seeds == [0]
    assert state.on_nodes == {}
    state.apply(OnNode("process 2", 2, JobStarted("samples", "s", 1, ("a",), (1,))), 102.0)
    state.apply(OnNode("process 2", 2, Waiting("fit", "d", 1)), 103.0)
    assert state.on_nodes == {}
    state.apply(JobFinished("fit", "d", 1, ("a",), (0,), False, 1.0), 104.0)
    assert state.job is None
