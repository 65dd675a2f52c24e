from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from collapse_sim.data.toys.linear_data import LinearData
from collapse_sim.families.linear import LinearRegression
from collapse_sim.remedies.luce import Luce

from .candidates import draws, points, pool

REWARD = {"kind": "linear"}


def chances(rule, candidates, rows, seeds=3000):
    """How often each candidate is kept, per draw."""
    counts = torch.zeros(len(candidates), dtype=torch.float64)
    for seed in range(seeds):
        counts += rule.choose(candidates, rows, draws(seed)).index.bincount(minlength=len(candidates))
    return counts / seeds


def close(chance, expected, seeds=3000):
    errors = (expected * (1 - expected) / seeds).sqrt()
    return bool(((chance - expected).abs() < 4 * errors + 1e-12).all())


def test_one_of_each_row_s_candidates_is_kept_with_luce_s_probability():
    """Three draws of two rows: candidates 0, 2, 4 compete for row 0, and 1, 3, 5 for row 1."""
    rewards = [0.0, 1.0, 0.5, -1.0, 2.0, 0.3]
    rule = Luce(k=3, reward=REWARD, tau=1.5)
    assert rule.candidates(2) == 6
    expected = torch.empty(6, dtype=torch.float64)
    for row in (0, 1):
        weights = [math.exp(1.5 * rewards[i]) for i in range(row, 6, 2)]
        expected[row::2] = torch.tensor(weights) / sum(weights)
    candidates = pool(points(*rewards), rows=2)
    assert close(chances(rule, candidates, 2), expected)
    kept = rule.choose(candidates, 2, draws()).index
    assert (kept % 2).tolist() == [0, 1]


def test_for_infinitely_many_candidates_the_pool_is_resampled():
    rewards = torch.tensor([0.0, 1.0, 0.5, -1.0])
    rule = Luce(k="inf", reward=REWARD, per_row=4)
    assert rule.candidates(3) == 12
    expected = rewards.double().softmax(0)
    mean = chances(rule, pool(points(*rewards.tolist()), rows=1), 1)
    assert close(mean, expected)
    report = rule.choose(pool(points(*rewards.tolist()), rows=1), 1, draws()).report
    assert report["reward_of_candidates"] == pytest.approx(0.125)
    assert report["effective_share"] == pytest.approx(float(1 / expected.square().sum() / 4))


def test_rows_with_conditions_keep_one_candidate_for_each_even_then():
    x = torch.tensor([[1.0], [-1.0]]).double()
    columns = {"x": x.repeat(16, 1), "y": torch.zeros(32).double()}
    candidates = pool(columns, rows=2, data=LinearData(dimensions=1), family=LinearRegression())
    index = Luce(k="inf", reward=REWARD).choose(candidates, 2, draws()).index
    assert (index % 2).tolist() == [0, 1]


def test_candidates_of_the_past_compete_at_random():
    """Each of the rows has two candidates of any rows: H = 2 E[e^r / (e^r + e^r')], each divided by the number."""
    rewards = torch.tensor([0.0, 2.0, -1.0], dtype=torch.float64)
    odds = rewards.exp()
    expected = torch.stack([(2 * o / (o + odds)).mean() for o in odds]) / 3
    rule = Luce(k=2, reward=REWARD, pool="past")
    assert rule.candidates(3) == 3
    candidates = pool(points(*rewards.tolist()))
    one = torch.stack([rule.choose(candidates, 3, draws(seed)).index for seed in range(1000)]).flatten()
    assert close(one.bincount(minlength=3).double() / 3000, expected)


def test_infinite_temperature_takes_no_notice_of_rewards():
    mean = chances(Luce(k=2, reward=REWARD, tau=0.0), pool(points(0, 50), rows=1), 1, seeds=1000)
    assert close(mean, torch.tensor([0.5, 0.5]).double(), 1000)


def test_rewards_that_are_no_numbers_are_errors():
    with pytest.raises(ValueError, match="the reward 'linear' is nan for 1 of 2 candidates"):
        Luce(reward=REWARD).choose(pool(points(math.nan, 0), rows=1), 1, draws())
    with pytest.raises(ValueError, match="the reward 'linear' is infinite for some candidates"):
        Luce(reward=REWARD).choose(pool(points(math.inf, 0), rows=1), 1, draws())


def test_settings_without_a_meaning_are_errors():
    with pytest.raises(ValidationError, match="`per_row` says how many candidates `k: inf` draws"):
        Luce(k=2, per_row=4, reward=REWARD)
    with pytest.raises(ValidationError):
        Luce(k=0, reward=REWARD)
    assert Luce(k=1, reward=REWARD).keeps_all
    assert not Luce(k="inf", reward=REWARD).keeps_all
