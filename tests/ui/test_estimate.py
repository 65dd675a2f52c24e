"""Time left, against runs whose end is known."""

from __future__ import annotations

import pytest

from collapse_sim.core.events import JobFinished, OnNode, RunFinished, RunStarted, Scored
from collapse_sim.ui.estimate import seconds_left, share_done
from collapse_sim.ui.state import State


def left_and_truth(timed, reduce, share):
    """The estimate after a share of the run's time, and what is really left."""
    start, end = timed[0][0], timed[-1][0]
    now = start + share * (end - start)
    return seconds_left(reduce([(at, event) for at, event in timed if at <= now]), now), end - now


def half_found() -> State:
    """Of a run of generations 0 to 3, the first two were found in the store."""
    state = State()
    state.apply(RunStarted("r", ("a",), (0,), 3, ("loss",), {"loss": True}, "cpu", "fp32", "runs/r"), 0.0)
    for k in range(2):
        for kind in ("fit", "samples", "scores"):
            state.apply(JobFinished(kind, f"{kind}{k}", k, ("a",), (0,), True, 0.0), 0.1)  # type: ignore[arg-type]
        state.apply(Scored(k, "a", (0,), {"loss": (1.0,)}), 0.1)
    return state


@pytest.mark.parametrize(("share", "within"), [(0.02, 0.4), (0.2, 0.25), (0.5, 0.15), (0.9, 0.25)])
def test_equal_generations(tell, reduce, share, within):
    timed = tell(arms=("replace", "distill"), generations=10)
    left, truth = left_and_truth(timed, reduce, share)
    assert left == pytest.approx(truth, rel=within)


@pytest.mark.parametrize("share", [0.01, 0.04, 0.3])  # in generations 0, 1 and 5 of 10
def test_growing_generations_cost_what_their_updates_do(tell, reduce, share):
    timed = tell(arms=("accumulate",), generations=10)
    left, truth = left_and_truth(timed, reduce, share)  # a constant cost would say half of it, or less
    assert left == pytest.approx(truth, rel=0.15)


@pytest.mark.parametrize("planned", [{"a": (500,) * 11}, {}])
def test_a_generation_that_other_work_slowed_makes_no_trend(planned):
    state, now = State(), 0.0
    better = {"loss": True}
    state.apply(RunStarted("r", ("a",), (0,), 10, ("loss",), better, "cpu", "fp32", "runs/r", None, planned), now)
    for k, took in enumerate((10.0, 10.0, 20.0)):
        for kind, share in (("fit", 0.9), ("samples", 0.05), ("scores", 0.05)):
            now += took * share
            state.apply(JobFinished(kind, f"{kind}{k}", k, ("a",), (0,), False, took * share), now)  # type: ignore[arg-type]
        state.apply(Scored(k, "a", (0,), {"loss": (1.0,)}), now)
    assert seconds_left(state, now) == pytest.approx(8 * 15.0)  # a line through both would say 4 minutes more


def test_a_given_model_says_nothing_about_fits():
    state = State()
    units = {"a": (0, 500, 500)}
    state.apply(RunStarted("r", ("a",), (0,), 2, ("loss",), {"loss": True}, "cpu", "fp32", "runs/r", None, units), 0.0)
    for kind, now in (("import", 1.0), ("samples", 2.0), ("scores", 3.0)):
        state.apply(JobFinished(kind, kind, 0, ("a",), (0,), False, 1.0), now)  # type: ignore[arg-type]
    state.apply(Scored(0, "a", (0,), {"loss": (1.0,)}), 3.0)
    assert seconds_left(state, 3.0) == pytest.approx(6.0)  # two more like it, for want of anything better


def shared_by_two(fits: int) -> State:
    """One generation of eight arms and three seeds after so many of its fits, each of 100 s, which two processes make;
    the fits of generation 0 took 250 s each. Samples and scores take a second."""
    arms, state, now = tuple("abcdefgh"), State(), 0.0
    state.apply(RunStarted("r", arms, (0, 1, 2), 1, ("loss",), {"loss": True}, "cpu", "fp32", "runs/r"), now)
    for kind, took in (("fit", 250.0), ("samples", 1.0), ("scores", 1.0)):
        for seed in range(3):
            now += took / 2
            state.apply(JobFinished(kind, kind, 0, arms, (seed,), False, took), now)  # type: ignore[arg-type]
    state.apply(Scored(0, "a", (0, 1, 2), {"loss": (1.0,) * 3}), now)
    for arm in arms[1:]:
        state.apply(Scored(0, arm, (0, 1, 2), {"loss": (1.0,) * 3}), now)
    jobs = [(arm, seed) for arm in arms for seed in range(3)]
    for number, (arm, seed) in enumerate(jobs[:fits]):
        node = OnNode("n", 1, JobFinished("fit", f"fit {arm}", 1, (arm,), (seed,), False, 100.0))
        now += 50.0
        state.apply(node if number % 2 else node.event, now)
    return state


@pytest.mark.parametrize("fits", [2, 12, 20, 24])
def test_fits_that_several_processes_have_made_before_any_cell_is_finished(fits):
    state = shared_by_two(fits)
    truth = (24 - fits) * 50.0 + 24 * 2 * 0.5
    left = seconds_left(state, state.updated)
    assert left == pytest.approx(truth, rel=0.1, abs=30)
    assert share_done(state, state.updated) == pytest.approx(state.updated / (state.updated + truth), abs=0.05)


def test_nothing_is_said_before_anything_was_made(tell, reduce):
    assert seconds_left(reduce(tell()[:1]), 2_000_000.0) is None


def test_what_was_found_costs_nothing():
    state = half_found()
    assert seconds_left(state, 0.1) is None
    for kind, now in (("fit", 8.1), ("samples", 9.1), ("scores", 10.1)):
        state.apply(JobFinished(kind, kind, 2, ("a",), (0,), False, 1.0), now)  # type: ignore[arg-type]
    state.apply(Scored(2, "a", (0,), {"loss": (1.0,)}), 10.1)
    assert seconds_left(state, 10.1) == pytest.approx(10.0)  # generation 3, as generation 2


def test_nothing_is_left_at_the_end(tell, reduce):
    timed = tell()
    assert seconds_left(reduce(timed[:-1]), timed[-1][0]) == 0
    assert isinstance(timed[-1][1], RunFinished)
    assert seconds_left(reduce(timed), timed[-1][0]) is None


def test_the_share_that_is_done_grows_from_nothing_to_all(tell, reduce):
    timed = tell(arms=("replace", "accumulate"), generations=6)
    start, end = timed[0][0], timed[-1][0]
    shares = []
    for step in range(11):
        now = start + (end - start) * step / 10
        shares.append(share_done(reduce([(at, event) for at, event in timed[:-1] if at <= now]), now))
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares[5:] == sorted(shares[5:])
    assert shares[5] == pytest.approx(0.5, abs=0.12)  # of the time, as the estimate is by then


def test_what_was_found_is_done():
    state = half_found()
    assert share_done(state, 0.1) == pytest.approx(0.5)  # nothing was made that could tell the time: by cells
