"""Diversity: greedy choices by hand, and what both methods promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from collapse_sim.remedies.diversity import Diversity, farthest_points, spread
from tests.families.wording import TEXT
from tests.remedies.candidate_pools import curation_draws, normal, points, pool_of

METHODS = ["farthest_point", "threshold_decay"]


def test_farthest_points_by_hand():
    x = np.array([[0.0], [1.0], [10.0], [4.0], [6.0]])
    assert farthest_points(x, 5).tolist() == [0, 2, 3, 4, 1]  # 10; then 4 and 6 tie, the first; 6; 1


def test_spread_is_the_mean_distance_of_nearest_neighbours():
    assert spread(np.array([[0.0], [1.0], [10.0]])) == pytest.approx((1 + 1 + 9) / 3)
    assert np.isnan(spread(np.zeros((1, 2))))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_kept_is_farther_apart_than_chance(method):
    x = normal(600, 2)
    choice = Diversity(method=method).choose(points(x, x), 100, curation_draws())
    assert len(choice.index.unique()) == 100
    assert choice.index.equal(choice.index.sort().values)
    at_random = spread(x[curation_draws(1).permutation(600)[:100]].numpy())
    assert choice.report["spread"] > 1.5 * at_random
    assert choice.report["spread"] == pytest.approx(spread(x[choice.index].numpy()))


@pytest.mark.parametrize("method", METHODS)
def test_a_rare_mode_is_kept(method):
    """Twenty rows of 1,000 are far away: a random fifth has four of them, and by distance all are kept."""
    x = torch.cat([normal(980, 2), normal(20, 2, 1) * 3 + 30])
    choice = Diversity(method=method).choose(points(x, x), 200, curation_draws())
    assert int((choice.index >= 980).sum()) >= 18


@pytest.mark.parametrize("method", METHODS)
def test_equals_come_last(method):
    x = torch.tensor([[0.0], [0.0], [0.0], [5.0], [9.0]], dtype=torch.float64)
    assert {3, 4} < {*Diversity(method=method).choose(points(x, x), 3, curation_draws()).index.tolist()}
    assert Diversity(method=method).choose(points(x, x), 5, curation_draws()).index.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("method", METHODS)
def test_choices_repeat(method):
    x = normal(200, 3)
    one, same, other = (Diversity(method=method).choose(points(x, x), 50, curation_draws(seed)) for seed in (0, 0, 1))
    assert one.index.equal(same.index)
    assert not one.index.equal(other.index)


def test_texts_are_compared_by_their_tokens():
    tokens = torch.tensor([[0, 1, 2, 0], [0, 2, 1, 0], [0, 1, 1, 2], [0, 7, 8, 0]])
    pool = pool_of({"tokens": tokens}, {"tokens": tokens}, TEXT)
    assert 3 in Diversity().choose(pool, 2, curation_draws()).index


def test_settings():
    assert Diversity(keep=1.0).keeps_all
    assert not Diversity().keeps_all
    assert Diversity(keep=0.25).candidates(100) == 400
    x = torch.tensor([[0.0], [torch.nan], [torch.inf], [1.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match="2 of 4 candidates are not finite"):
        Diversity().choose(points(x, x), 2, curation_draws())


@pytest.mark.parametrize("setting", [{"start": 0.5}, {"decay": 0.5}])
def test_thresholds_are_for_threshold_decay(setting):
    with pytest.raises(ValidationError, match="is for `method: threshold_decay`, found farthest_point: leave it out"):
        Diversity(**setting)
    Diversity(method="threshold_decay", **setting)
