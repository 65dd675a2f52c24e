"""Ranks in two real processes: what they agree on, what they sum, and what happens when one of them fails."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from collapse_sim.core import ranks as ranks_module
from collapse_sim.core.board import EndedError
from collapse_sim.core.errors import DivergedError, RanksError
from collapse_sim.core.ranks import GradientSums, Group, Pause, Ranks
from tests.rank_pool import changed_method


def test_one_process_is_the_first_of_one():
    ranks = Ranks()
    assert (ranks.first, ranks.mine, ranks.role("dropout"), ranks.signal()) == (True, slice(0, None, 1), "dropout", 0)
    assert ranks.of_first(lambda: 3) == 3
    assert ranks.each([1, 2], lambda task: 2 * task) == [2, 4]
    assert ranks.gradients([])(torch.tensor(5.0)) == 5
    assert ranks.agreed(Pause(True, False, 2)) == Pause(True, False, 2)
    assert ranks.together({}, lambda: "made") == "made"


class OddError(Exception):
    """An exception that cannot be copied to another process."""

    def __init__(self, one, two):
        super().__init__(one)
        self.lock = (x for x in two)


def answers(ranks: Group):
    calls = []

    def first_only():
        calls.append(ranks.rank)
        return {"rows": np.arange(3)}

    def odd():
        raise OddError("odd", [1])

    def diverged():
        raise DivergedError("no number", (4,))

    received = ranks.of_first(first_only)
    raised = []
    for action in (odd, diverged):
        try:
            ranks.of_first(action)
        except Exception as error:
            raised.append((type(error).__name__, str(error), getattr(error, "seeds", None)))
    return received["rows"].tolist(), calls, raised, ranks.role("x"), list(range(5))[ranks.mine]


def test_every_rank_gets_what_the_first_gets_and_raises_what_it_raises(pool):
    first, second = pool.both(answers)
    assert (first[:2], second[:2]) == (([0, 1, 2], [0]), ([0, 1, 2], []))
    assert first[2] == [("OddError", "odd", None), ("DivergedError", "no number", (4,))]
    assert second[2] == [("RuntimeError", "OddError: odd", None), ("DivergedError", "no number", (4,))]
    assert (first[3:], second[3:]) == (("x", [0, 2, 4]), ("x/rank 1", [1, 3]))


def shares(ranks: Group):
    made: list[int] = []

    def make(task: int) -> int:
        made.append(task)
        if task in (7, 8):
            raise DivergedError(f"task {task}", (task,))
        return task * task

    results = [ranks.each(tasks, make) for tasks in ([1, 2, 3], [4], [])]
    try:
        ranks.each([6, 7, 8], make)
    except DivergedError as error:
        return results, made, error.seeds
    return None


def test_tasks_are_made_in_turn_and_the_first_failure_counts(pool):
    first, second = pool.both(shares)
    assert first == ([[1, 4, 9], [16], []], [1, 3, 4, 6, 8], (7,))
    assert second == ([[], [], []], [2, 7], (7,))


def late(ranks: Group):
    """Rank 1 takes longer -> whether it was there before rank 0 began to gather, and which notes are left."""
    there = []

    def gathers(before):
        def gather(*given, **named):
            there.append(ranks.board.has("met/1/1"))
            return before(*given, **named)

        return gather

    def act():
        return ranks.each([1, 2], lambda task: time.sleep(0.3 * ranks.rank) or task, long=True)

    with changed_method(torch.distributed, "gather_object", gathers):
        if ranks.first:
            made = ranks.together({"act": 0}, act), ranks.together({"act": 1}, act)
            left = [name for name in ("met/1/0", "met/1/1", "met/2/0", "met/2/1") if ranks.board.has(name)]
            ranks.end(0)
            return made, there, left
        with pytest.raises(EndedError):
            ranks.follow(lambda task: act())
    return there


def test_long_tasks_are_awaited_before_they_are_gathered(pool):
    """What is gathered has a time limit, and how long a score takes has none."""
    first, second = pool.both(late)
    assert first == (([1, 2], [1, 2]), [True, True], ["met/2/0", "met/2/1"])
    assert second == [True, True]


def parameters(*gradients: list[float] | None, dtype=torch.float32):
    made = []
    for gradient in gradients:
        parameter = torch.nn.Parameter(torch.zeros(2, dtype=dtype))
        parameter.grad = None if gradient is None else torch.tensor(gradient, dtype=dtype)
        made.append(parameter)
    return made


def sums(ranks: Group):
    own = [
        parameters([1.0, 2.0], None, [5.0, 5.0]),
        parameters([10.0, 20.0], None, None),
    ][ranks.rank] + parameters([3.0, 4.0], dtype=torch.float64)
    frozen = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
    total = ranks.gradients([*own, frozen])
    losses = [float(total(torch.tensor(0.5 + ranks.rank)))]
    first = [None if parameter.grad is None else parameter.grad.tolist() for parameter in own]
    own[2].grad = None
    losses.append(float(total(torch.tensor(float("inf") if ranks.rank else 1.0))))
    later = own[2].grad.tolist()
    own[1].grad = torch.ones(2)
    with pytest.raises(RuntimeError, match="first gradient after the first step"):
        total(torch.tensor(0.0))
    return losses, first, later


def test_gradients_are_summed_and_parameters_without_one_keep_none(pool):
    for outcome in pool.both(sums):
        assert outcome == (
            [2.0, float("inf")], [[11.0, 22.0], None, [5.0, 5.0], [6.0, 8.0]], [0.0, 0.0],
        )  # fmt: skip


def large(ranks: Group, elements: int):
    own = [torch.full((elements,), float(ranks.rank + 1)), torch.full((3, 5), 2.0)]
    ranks.sum_(own)
    return [(float(tensor.min()), float(tensor.max())) for tensor in own]


def test_sums_of_more_than_a_bucket(pool):
    for outcome in pool.both(large, 7 * 2**20):
        assert outcome == [(3.0, 3.0), (4.0, 4.0)]


def steps_in_buckets(ranks, overlapped, rows):
    """The gradients and losses of three steps of two micro-batches in small buckets, and how many buckets were on their
    way when the backward passes ended. The ranks have different rows, and the second may have none."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(5, 5) for _ in range(4)]
    model, unused = torch.nn.Sequential(*layers), torch.nn.Parameter(torch.ones(3))
    results, early = [], []
    with changed_method(ranks_module, "BUCKET_BYTES", lambda _: 120):
        sums = GradientSums(ranks, [*model.parameters(), unused], overlapped=overlapped)
        for step in range(3):
            parts = torch.arange(60.0).view(12, 5)[ranks.mine][: rows[ranks.rank]].div(60 + step).chunk(2)
            parts = [part for part in parts if len(part)]
            sums.begin(len(parts))
            total = torch.zeros(())
            for part in parts:
                loss = model(part).square().sum()
                loss.backward()
                total += loss.detach()
            early.append(len(sums._sent))
            results += [sums(total), *(p.grad.clone() for p in model.parameters())]
            model.zero_grad()
            assert unused.grad is None
    return results, early


@pytest.mark.parametrize(("rows", "most"), [((6, 6), (4, 4)), ((3, 1), (4, 4)), ((1, 0), (4, 0))])
def test_sums_during_the_backward_pass_are_those_after_it(pool, rows, most):
    """Bit by bit; the first step, after which the ranks know which parameters are used, sends nothing early, nor does a
    rank without rows. The last bucket waits for the loss."""
    during, after = (pool.both(steps_in_buckets, overlapped, rows) for overlapped in (True, False))
    for (own, early), (expected, never), buckets in zip(during, after, most, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(own, expected, strict=True))
        assert early == [0, buckets, buckets]
        assert never == [0, 0, 0]


def pauses(ranks: Group):
    """At which steps a save (wished for by rank 0 alone) and a stop (known to rank 1 alone) are agreed on."""
    ranks._restart()
    saved, stopped = [], []
    for step in range(2000):
        pause = ranks.agreed(Pause(False, step >= 5, 15 if ranks.rank and step >= 8 else 0))
        if pause.save:
            saved.append(step)
        if pause.signal:
            stopped.append((step, pause.signal))
            break
        time.sleep(0.001 * (1 + ranks.rank))
    return saved, stopped


def test_a_stop_that_one_rank_knows_of_is_taken_at_the_same_step_by_all(pool):
    first, second = pool.both(pauses)
    assert first == second
    ((step, signal),) = first[1]
    assert signal == 15
    assert 8 <= step < 1500


def jobs(ranks: Group):
    """Three jobs: one that succeeds, one that diverges on both ranks, one more."""
    log: list[str] = []

    def work(task):
        log.append(task["name"])
        if task["name"] == "diverges":
            raise DivergedError("no number", (3,))
        return ranks.of_first(lambda: task["name"])

    if not ranks.first:
        try:
            ranks.follow(work)
        except EndedError as ended:
            return log, ended.code
    for name in ("one", "diverges", "two"):
        try:
            assert ranks.together({"name": name}, lambda: work({"name": name})) == name  # noqa: B023
        except DivergedError as error:
            log.append(f"raised for {error.seeds}")
    ranks.end(4)
    return log, 4


def test_jobs_are_done_together_until_the_first_rank_ends(pool):
    first, second = pool.both(jobs)
    assert first == (["one", "diverges", "raised for (3,)", "two"], 4)
    assert second == (["one", "diverges", "two"], 4)


def lone_failure(ranks: Group):
    """A job that fails on rank 1 alone, at its end."""

    def work(task):
        if ranks.rank:
            raise MemoryError("too large")
        return "made"

    if ranks.first:
        started = time.monotonic()
        with pytest.raises(MemoryError, match="too large"):
            ranks.together({}, lambda: work({}))
        ranks.end(1)
        return time.monotonic() - started
    with pytest.raises(EndedError):
        ranks.follow(work)
    return 0.0


def test_what_fails_on_another_rank_alone_fails_the_job(pool):
    assert max(pool.both(lone_failure)) < 20


def unheard(ranks: Group):
    """A job that fails on rank 0 alone, while rank 1 would go on."""
    import collapse_sim.core.ranks as module

    before, module.APART_S = module.APART_S, 1.0
    try:
        if ranks.first:
            with pytest.raises(RanksError, match=r"rank 0 of 2 on .*: no space") as failed:
                ranks.together({}, lambda: (_ for _ in ()).throw(DivergedError("no space")))
            ranks.end(failed.value.code)
            return failed.value.code
        with pytest.raises(EndedError) as ended:
            ranks.follow(lambda task: ranks.board.get("never", None, 0))
        return ended.value.code
    finally:
        module.APART_S = before


def test_the_first_rank_ends_all_when_it_fails_alone(pool):
    assert pool.both(unheard) == [4, 4]
