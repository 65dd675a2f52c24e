"""What the journal's lines come to."""

from __future__ import annotations

import math

from collapse_sim.store.journal import scores_of


def scores(generation: int, values: list[float | None], arm: str = "a") -> dict:
    return {"event": "scores", "arm": arm, "generation": generation, "seeds": [0, 1], "metrics": {"loss": values}}


def diverged(generation: int, seed: int = 1) -> dict:
    return {"event": "diverged", "arm": "a", "generation": generation, "seed": seed}


def test_the_last_value_counts() -> None:
    lines = [scores(0, [1.0, 2.0]), scores(1, [3.0, 4.0]), scores(0, [5.0, 6.0]), scores(0, [7.0, 8.0], "b")]
    assert scores_of(lines) == {
        "a": {"loss": {0: {0: 5.0, 1: 6.0}, 1: {0: 3.0, 1: 4.0}}},
        "b": {"loss": {0: {0: 7.0, 1: 8.0}}},
    }


def test_what_a_chain_had_before_it_was_found_to_end_is_dropped() -> None:
    found = scores_of([scores(0, [1.0, 2.0]), scores(1, [3.0, 4.0]), scores(2, [5.0, 6.0]), diverged(1)])
    assert found == {"a": {"loss": {0: {0: 1.0, 1: 2.0}, 1: {0: 3.0}, 2: {0: 5.0}}}}


def test_nan_stays_when_a_repeated_run_records_the_end_again() -> None:
    found = scores_of([diverged(1), scores(1, [3.0, None]), diverged(1)])["a"]["loss"][1]
    assert found[0] == 3.0
    assert math.isnan(found[1])
