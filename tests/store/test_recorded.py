"""Which scores a run has ever recorded, and which of them a journal has lost."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from collapse_sim.store import recorded
from collapse_sim.store.blocks import parse_block
from tests.store.score_lines import line


def test_recorded_scores_are_missed_in_any_order_and_however_they_went(tmp_path):
    lines = [line(k, arm, m=[1.0, 2.0], n=[3.0, 4.0]) for k in range(5) for arm in ("a", "b")]
    scores: recorded.Scores = {}
    recorded.add(scores, random.Random(0).sample(lines, len(lines)))
    assert scores == {arm: {metric: {"s0-1": [[0, 4]]} for metric in "mn"} for arm in "ab"}
    recorded.write(tmp_path, scores)
    assert recorded.read(tmp_path) == scores
    assert recorded.lost_scores(scores, lines) == []
    assert recorded.lost_scores(scores, lines[:-1]) == ["m of b, generation 4", "n of b, generation 4"]
    parts = [line(k, arm, (seed,), m=[1.0], n=[2.0]) for k in range(5) for arm in "ab" for seed in (1, 0)]
    assert recorded.lost_scores(scores, parts) == []
    assert recorded.lost_scores(scores, [entry for entry in parts if entry["generation"] not in (1, 3)]) == [
        f"{metric} of {arm}, generations 1,3" for arm in "ab" for metric in "mn"
    ]


def cells(lines: list[dict[str, Any]]) -> set[tuple[str, str, int, int]]:
    """(arm, metric, generation, seed) of every score."""
    return {
        (entry["arm"], metric, entry["generation"], seed)
        for entry in lines
        for metric in entry["metrics"]
        for seed in entry["seeds"]
    }


def random_lines(dice: random.Random) -> list[dict[str, Any]]:
    found = []
    for _ in range(dice.randrange(1, 30)):
        seeds = tuple(dice.sample(range(5), dice.randrange(1, 5)))
        metrics = {metric: [0.0] * len(seeds) for metric in dice.sample("mno", dice.randrange(1, 4))}
        found.append(line(dice.randrange(6), dice.choice("ab"), seeds, **metrics))
    return found


@pytest.mark.parametrize("seed", range(40))
def test_what_is_recorded_and_what_is_lost_against_plain_sets(seed: int) -> None:
    """Of random lines, some of which are lost: exactly those generations are named that lack a recorded seed."""
    dice = random.Random(seed)
    lines = random_lines(dice)
    scores: recorded.Scores = {}
    for entry in lines:
        recorded.add(scores, [entry])
    said = {
        (arm, metric, k, s)
        for arm, by_metric in scores.items()
        for metric, by_seeds in by_metric.items()
        for name, runs in by_seeds.items()
        for first, last in runs
        for k in range(first, last + 1)
        for s in parse_block(name)
    }
    assert said == cells(lines)
    for by_metric in scores.values():
        for runs in (runs for by_seeds in by_metric.values() for runs in by_seeds.values()):
            assert all(end + 1 < start for (_, end), (start, _) in itertools.pairwise(runs))  # as few runs as can be
    left = dice.sample(lines, len(lines) // 2)
    lost: dict[str, set[int]] = {}
    for arm, metric, k, _ in cells(lines) - cells(left):
        lost.setdefault(f"{metric} of {arm}", set()).add(k)
    found = {}
    for text in recorded.lost_scores(scores, left):
        what, _, generations = text.partition(", ")
        word, _, numbers = generations.partition(" ")
        found[what] = set(parse_block(f"s{numbers}"))
        assert word == ("generation" if len(found[what]) == 1 else "generations")
    assert found == lost


def test_lines_without_scores_record_nothing() -> None:
    scores: recorded.Scores = {}
    ended = {"event": "diverged", "arm": "a", "generation": 1, "seed": 0, "message": ""}
    recorded.add(scores, [ended, line(0, seeds=(), m=[])])
    assert scores == {}
