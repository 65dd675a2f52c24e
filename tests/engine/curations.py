"""Recipes, curations of a test's own, and runs of arms with them."""

from __future__ import annotations

from typing import ClassVar

import torch

from collapse_sim.core.component import Component
from collapse_sim.engine import artefacts
from collapse_sim.remedies.base import Choice

DIGITS = """
data: {{use: digits, rows: 60, held_out_rows: 20}}
model: {{use: vae, hidden: 8, latent: 2}}
train: {{steps: 3, batch_size: 32, evaluate: never}}
samples: 50
sampling: {{shard: 30}}
generations: {generations}
seeds: [3]
arms: {arms}
metrics: [test_loss]
"""
TOY = """
data: {{use: gaussian, dimensions: 2, rows: 40, held_out_rows: 10}}
model: gaussian
generations: {generations}
seeds: [3, 4]
arms: {arms}
metrics: [variance_ratio]
"""
STORIES = """
data: {{use: grammar, rows: 40, held_out_rows: 12}}
model: {{use: causal_lm, preset: tiny, width: 16, layers: 1}}
train: {{steps: 3, batch_size: 16, evaluate: never}}
sampling: {{shard: 25}}
generations: {generations}
seeds: [3]
arms: {arms}
metrics: [test_loss]
"""
PAIRS = """
data: {{use: grammar_pairs, rows: 30, held_out_rows: 12}}
model: {{use: seq2seq, preset: tiny, width: 16, layers: 1, decoding: sample}}
train: {{steps: 3, batch_size: 16, evaluate: never}}
generations: {generations}
seeds: [3]
arms: {arms}
metrics: [test_loss]
"""
HERE = __name__


class Reversed(Component):
    """Twice as many candidates; the last ones, negated, so that rows are changed."""

    pool: str = "generation"

    def candidates(self, rows):
        return 2 * rows if self.pool == "generation" else rows

    def check(self, data, info, family):
        pass

    def choose(self, pool, rows, draws):
        index = torch.arange(len(pool) - 1, len(pool) - 1 - rows, -1)
        return Choice(index, columns={"x": -pool.columns["x"][index]}, report={"candidates_seen": float(len(pool))})


class Watched(Component):
    """Notes what it is shown, and keeps the first rows."""

    judge: str = "origin"
    loss_draws: int = 1
    pool: str = "generation"
    seen: ClassVar[list] = []

    def candidates(self, rows):
        return rows + 7 if self.pool == "generation" else rows

    def check(self, data, info, family):
        pass

    def choose(self, pool, rows, draws):
        targets = pool.targets() if pool.targets else None
        self.seen.append((pool, pool.losses(self.judge), pool.real(), targets))
        return Choice(torch.arange(rows))


class Weighted(Component):
    """The first rows, with their numbers as weights."""

    pool: str = "generation"

    def candidates(self, rows):
        return rows

    def check(self, data, info, family):
        pass

    def choose(self, pool, rows, draws):
        return Choice(torch.arange(rows), torch.arange(rows).float())


class Few(Component):
    """Asks for fewer candidates than rows."""

    pool: str = "generation"

    def candidates(self, rows):
        return rows - 1

    def check(self, data, info, family):
        pass

    def choose(self, pool, rows, draws):
        return Choice(torch.arange(rows))


def candidates_of(store, spec, seed):
    return [artefacts.columns(store, draw, seed, "samples")[1] for draw in spec.draws]
