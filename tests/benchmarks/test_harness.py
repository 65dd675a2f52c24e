"""Rotation, medians and budget, with a clock that only measurements move."""

from __future__ import annotations

import pytest
import torch

from benchmarks.harness import CannotMeasureError, Case, Setting, Ways, measure, ratios, rotate
from collapse_sim.core.machine import Device

CPU = Device(torch.device("cpu"))


class Clock:
    """Seconds that pass only when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def way(self, name: str, seconds: float, *values: float):
        """A measurement that takes a time and gives the next value."""
        remaining = list(values)

        def work() -> float:
            self.now += seconds
            self.calls.append(name)
            return remaining.pop(0) if remaining else 0.0

        return work


def test_ways_alternate_after_a_round_that_does_not_count():
    clock = Clock()
    warmed: list[int] = []
    measures = {"a": clock.way("a", 1, 100, 1, 2), "b": clock.way("b", 2, 200, 3, 4)}
    values = rotate(measures, 9, clock=clock, warmed=lambda: warmed.append(len(clock.calls)))
    assert clock.calls == ["a", "b"] * 3
    assert values == {"a": [1, 2], "b": [3, 4]}
    assert warmed == [2]


@pytest.mark.parametrize(
    ("seconds", "rounds"),
    [(0, 1), (5.9, 1), (8.9, 1), (9, 2), (11.9, 2), (12, 3), (1e9, 20)],
)
def test_rounds_end_within_the_budget(seconds, rounds):
    """Rounds take three seconds, the first one is a warm-up, and one that counts there is always."""
    clock = Clock()
    values = rotate({"a": clock.way("a", 1), "b": clock.way("b", 2)}, seconds, clock=clock)
    assert [len(of_way) for of_way in values.values()] == [rounds, rounds]
    assert clock.now == 3 * (rounds + 1)
    assert clock.now <= max(seconds, 6)


def test_without_a_warm_up_the_first_round_counts():
    clock = Clock()
    assert rotate({"a": clock.way("a", 1, 7)}, 1, warm_up=False, clock=clock) == {"a": [7]}


def test_ratios_are_of_medians_and_above_one_where_ours_is_better():
    rates = {"ours": [4, 100, 2], "slow": [2, 2, 2], "fast": [8, 8, 8]}
    assert ratios(rates, "higher") == {"slow": 2, "fast": 0.5}
    seconds = {"ours": [4, 1, 100], "slow": [8, 8, 8]}
    assert ratios(seconds, "lower") == {"slow": 2}


def example(clock: Clock, **changes) -> Case:
    also = {"whole": []}

    def prepare(setting: Setting) -> Ways:
        clock.now += 5
        assert not list(setting.folder.iterdir())

        def ours() -> float:
            also["whole"].append(clock.now)
            return clock.way("ours", 1, 30.0)()

        return Ways({"ours": ours, "theirs": clock.way("theirs", 1, 0, 10, 20)}, operations=2e9, also=also)

    settings = {"quantity": "rows/s", "prepare": prepare, "targets": {"theirs": {"cpu": 3, "cuda": 9}}}
    return Case("example", "one thing with another", **{**settings, **changes})


def test_an_entry_has_what_was_measured_and_what_it_means():
    clock = Clock()
    entry = measure(example(clock), CPU, 11, clock=clock)
    assert entry["measured"] == {"ours": [30, 30], "theirs": [10, 20]}
    assert entry["medians"] == {"ours": 30, "theirs": 15}
    assert entry["ratios"] == {"theirs": 2}
    assert entry["targets"] == {"theirs": 3}
    assert entry["also"] == {"whole": [7, 9]}  # without the warm-up's
    assert entry["gflops"] == 60
    assert entry["seconds"] == 11  # preparing counts


def test_a_case_that_cannot_be_measured_says_why_and_one_that_fails_ends_nothing():
    def nothing(setting: Setting) -> Ways:
        raise CannotMeasureError("no compiler here")

    def broken(setting: Setting) -> Ways:
        raise ZeroDivisionError("by zero")

    clock = Clock()
    assert measure(example(clock, prepare=nothing), CPU, 1)["missing"] == "no compiler here"
    assert measure(example(clock, prepare=broken), CPU, 1)["failed"] == "ZeroDivisionError: by zero"
    assert measure(example(clock, devices=("cuda",)), CPU, 1)["missing"] == "for cuda only"
