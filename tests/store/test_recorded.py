"""Which scores a run has ever recorded, and which of them a journal has lost."""

from __future__ import annotations

import random

from collapse_sim.store import recorded
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
