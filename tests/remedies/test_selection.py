from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from collapse_sim.remedies.random_choice import RandomChoice
from collapse_sim.remedies.selection import best, best_by_class, checked, tied

from .candidates import draws, points, pool


def test_enough_candidates_are_drawn_to_keep_the_share():
    for keep, rows, expected in ((0.5, 7, 14), (0.1, 30, 300), (0.3, 7, 24), (1.0, 9, 9), (1 / 3, 100, 300)):
        assert RandomChoice(keep=keep).candidates(rows) == expected
    assert RandomChoice().candidates(5) == 10


def test_a_share_has_no_meaning_where_the_strategy_says_how_many_rows_there_are():
    assert RandomChoice(pool="past").candidates(5) == 5
    with pytest.raises(ValidationError, match="`keep` has no meaning with `pool: past`"):
        RandomChoice(pool="past", keep=0.5)


def test_the_best_are_kept_in_the_order_of_the_candidates():
    scores = torch.tensor([0.0, 5.0, -math.inf, 4.0, 9.0, 1.0], dtype=torch.float64)
    assert best(scores, 3, draws()).tolist() == [1, 3, 4]
    assert best(scores, 6, draws()).tolist() == [0, 1, 2, 3, 4, 5]


def test_ties_are_decided_at_random_and_not_by_the_order():
    scores = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])
    second = {best(scores, 2, draws(seed)).tolist()[1] for seed in range(60)}
    assert second == {1, 2, 3, 4}


def test_every_class_keeps_its_share():
    labels = torch.tensor([0] * 6 + [1] * 4)
    scores = torch.tensor([1, 2, 3, 4, 5, 6, 90, 80, 70, 60], dtype=torch.float64)
    assert best_by_class(scores, labels, 5, draws(), {}).tolist() == [3, 4, 5, 6, 7]
    assert best_by_class(scores, labels, 4, draws(), {0: 0.0}).tolist() == [6, 7, 8, 9]
    halved = best_by_class(scores, labels, 4, draws(), {0: 1 / 3})  # weights 2 and 4: 1.33 and 2.67 rows
    assert halved.tolist() == [5, 6, 7, 8]
    with pytest.raises(ValueError, match="class 1 has 4 candidates, and 5 are to be kept: lower `keep`"):
        best_by_class(scores, labels, 5, draws(), {0: 0.0})
    with pytest.raises(ValueError, match="the factors of all classes that were generated are 0"):
        best_by_class(scores, labels, 5, draws(), {0: 0.0, 1: 0.0})


def test_scores_that_say_nothing_are_errors():
    with pytest.raises(ValueError, match="the score is nan for 1 of 2 candidates"):
        checked(torch.tensor([0.0, math.nan]), 2, "the score")
    with pytest.raises(ValueError, match=r"the score has the shape \(2, 1\); needed: \(2,\)"):
        checked(torch.zeros(2, 1), 2, "the score")
    first = pool(points(0.0, 1.0))
    with pytest.raises(ValueError, match="the score is 3 for all 2 candidates"):
        tied(torch.tensor([3.0, 3.0]), "the score", first)
    assert tied(torch.tensor([3.0, 3.5]), "the score", first) == {}


def test_ties_of_a_later_generation_are_recorded():
    later = pool(points(1.0, 1.0), generation=3)
    assert tied(torch.tensor([3.0, 3.0]), "the score", later) == {"tied": 1.0}
    assert tied(torch.tensor([3.0, 3.5]), "the score", later) == {}
