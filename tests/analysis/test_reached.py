"""How far arms have come, and where they can be compared."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from collapse_sim.analysis.reached import by_last, common, divergences, generations_of, progress_elsewhere, unfinished
from collapse_sim.analysis.results import Results


def results(reached: Mapping[str, Mapping[str, Sequence[int]]], generations: int = 4, **extra: Any) -> Results:
    """reached[arm][metric]: the generations with a score."""
    metrics = dict.fromkeys(("loss", "fid"), "lower")
    values = {
        arm: {metric: {k: {0: 1.0} for k in ks} for metric, ks in by_metric.items()}
        for arm, by_metric in reached.items()
    }
    return Results("x", tuple(reached), (0,), metrics, generations, next(iter(reached)), values, **extra)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(40))
def test_the_last_generation_that_all_have_against_plain_sets(seed: int) -> None:
    dice = random.Random(seed)
    reached = {
        arm: {metric: sorted(dice.sample(range(5), dice.randrange(5))) for metric in ("loss", "fid")} for arm in "abc"
    }
    found = results(reached)
    both = {arm: set(ks["loss"]) | set(ks["fid"]) for arm, ks in reached.items()}
    assert {arm: generations_of(found, ["loss", "fid"], arm) for arm in "abc"} == both
    begun = [ks for ks in both.values() if ks]
    shared = [k for k in range(5) if begun and all(k in ks for ks in begun)]
    if shared:
        assert common(found, ["loss", "fid"]) == max(shared)
    elif begun:
        assert common(found, ["loss", "fid"]) == max(max(ks) for ks in begun)  # none that all have: the furthest
    else:
        assert common(found, ["loss", "fid"]) is None
    groups = by_last(found, ["loss", "fid"])
    assert {arm: k for k, arms in groups.items() for arm in arms} == {a: max(ks, default=-1) for a, ks in both.items()}
    assert list(groups) == sorted(groups)


def test_one_metric_and_some_arms() -> None:
    found = results({"a": {"loss": [0, 1, 2], "fid": [0]}, "b": {"loss": [0, 1]}, "c": {}})
    assert common(found, ["loss"]) == 1
    assert common(found, ["fid"]) == 0
    assert common(found, ["loss"], ["a"]) == 2
    assert common(found, ["loss"], ["c"]) is None


@pytest.mark.parametrize(
    ("reached", "said"),
    [
        ({"a": range(5), "b": range(5)}, ""),
        ({"a": range(2), "b": range(2)}, "has reached generation 1; the recipe goes to 4"),
        ({"a": (), "b": ()}, "no scores yet; the recipe goes to 4"),
        ({"a": range(5), "b": range(3)}, "b at 2, a at 4; the recipe goes to 4"),
        ({"a": range(3), "b": range(3), "c": ()}, "c without scores yet, a, b at 2; the recipe goes to 4"),
    ],
)
def test_what_a_run_that_goes_on_has_reached(reached: Mapping[str, Sequence[int]], said: str) -> None:
    found = results({arm: {"loss": list(ks)} for arm, ks in reached.items()})
    assert unfinished(found) == said


def test_who_is_elsewhere() -> None:
    found = results({"a": {"loss": [0, 1, 2]}, "b": {"loss": [0, 1]}, "c": {}})
    assert progress_elsewhere(found, ["loss"], 2) == "c without scores yet, b at 1"
    assert progress_elsewhere(results({"a": {"loss": [0]}, "b": {"loss": [0]}}), ["loss"], 0) == ""
    assert progress_elsewhere(results({"a": {"loss": [0]}, "b": {"loss": [0]}}), ["loss"], 1) == "all arms at 0"


def test_chains_that_diverged_are_named_by_generation() -> None:
    found = results({"a": {"loss": [0]}, "b": {"loss": [0]}}, diverged={"a": {0: 2, 1: 1, 5: 2}, "gone": {0: 0}})
    assert divergences(found) == ["a: seed 1 diverged at generation 1", "a: seeds 0, 5 diverged at generation 2"]
    assert divergences(found, ["b"]) == []
