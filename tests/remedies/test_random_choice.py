from __future__ import annotations

import torch

from collapse_sim.remedies.random_choice import RandomChoice

from .candidates import draws, points, pool


def test_every_candidate_is_as_likely_and_none_is_taken_twice():
    candidates = pool(points(*range(10)), rows=5)
    counts = torch.zeros(10)
    for seed in range(2000):
        index = RandomChoice().choose(candidates, 5, draws(seed)).index
        assert index.tolist() == sorted(set(index.tolist()))
        counts[index] += 1
    assert ((counts / 2000 - 0.5).abs() < 4 * (0.25 / 2000) ** 0.5).all()


def test_it_keeps_all_only_if_nothing_more_is_drawn():
    assert RandomChoice(keep=1.0).keeps_all
    assert not RandomChoice(keep=0.9).keeps_all
    assert not RandomChoice(pool="past").keeps_all
