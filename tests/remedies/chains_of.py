"""Small chains with remedies, through the real loop, and their scores."""

from __future__ import annotations

import math

import numpy as np

from collapse_sim.analysis.results import read_results
from collapse_sim.engine import artefacts
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.store.store import Store

DIGITS = """
name: digits
data: {{use: digits, rows: 64, held_out_rows: 20}}
model: {{use: {model}}}
train: {{steps: 4, batch_size: 32, evaluate: never}}
samples: 40
sampling: {{shard: 25}}
generations: 1
seeds: [3]
arms:
  plain: {{data: replace}}
  remedy: {{data: replace, {axes}}}
metrics: [{{use: fid, features: pixels}}]
"""
VAE = "vae, hidden: 8, latent: 2"
SMALL_DDPM = "ddpm, network: {widths: [4, 8], attention: none}, timesteps: 8, schedule: cosine"
FLOW = "flow_matching, network: {widths: [4, 8], attention: none}, sampling_steps: 3"
EDM = "edm, network: {widths: [4, 8], attention: none}, sampling_steps: 3"

GRAMMAR = """
name: grammar
data: {{use: grammar, rows: 60, held_out_rows: 20}}
model: {{use: causal_lm, preset: tiny, width: 16, layers: 1}}
train: {{steps: 4, batch_size: 32, learning_rate: 0.01, evaluate: never}}
samples: 40
sampling: {{shard: 25}}
generations: 1
seeds: [3]
arms:
  plain: {{data: replace}}
  remedy: {{data: replace, {axes}}}
metrics: [{{use: distinct_n, n: 2}}]
"""

POINTS = """
name: points
data: {{use: gaussian, dimensions: 2, rows: 64, fresh_rows: 10}}
model: {{use: flow_matching, network: {{widths: [8, 8]}}, sampling_steps: 3}}
train: {{steps: 4, batch_size: 32, evaluate: never}}
samples: 40
sampling: {{shard: 25}}
generations: 1
seeds: [3]
arms:
  plain: {{data: replace}}
  remedy: {{data: replace, {axes}}}
metrics: [sliced_w2]
"""

GAUSSIAN = """
name: gaussian
data: {{use: gaussian, dimensions: {dimensions}, rows: {rows}, fresh_rows: 10}}
model: {{use: gaussian}}
generations: {generations}
samples: {rows}
seeds: {seeds}
arms:
  plain: {{data: replace}}
  remedy: {{data: replace, {axes}}}
metrics: [variance_ratio]
"""


def gaussian(axes, rows=50, generations=2, seeds=1000, dimensions=1):
    return GAUSSIAN.format(axes=axes, rows=rows, generations=generations, seeds=seeds, dimensions=dimensions)


def digits(model, axes):
    return DIGITS.format(model=model, axes=axes)


def points(axes):
    return POINTS.format(axes=axes)


def grammar(axes):
    return GRAMMAR.format(axes=axes)


def experiment_of(sandbox, recipe):
    return prepare(load(sandbox.recipe(recipe)), sandbox.root)


def plans(sandbox, recipe):
    """{arm: its generations}."""
    return {plan.name: plan.generations for plan in experiment_of(sandbox, recipe).arm_plans}


def ran(sandbox, recipe):
    """The same of a recipe that is run, and the run's store."""
    sandbox.run(recipe)
    return plans(sandbox, recipe), Store(sandbox.root / ".store")


def rows_of(store, spec, seed=3):
    _, columns = artefacts.columns(store, spec, seed, "samples")
    return {name: np.array(column) for name, column in columns.items()}


def means(sandbox, recipe, metric, arm="remedy"):
    """[(mean, standard error) of each generation] over the seeds."""
    assert sandbox.run(recipe)["diverged"] == []
    results = read_results(sandbox.root / "run")
    scores = [np.array(list(results.scores(arm, metric, k).values())) for k in range(results.generations + 1)]
    return [(s.mean(), s.std(ddof=1) / math.sqrt(len(s))) for s in scores]


def assert_close(found, expected):
    assert len(found) == len(expected)
    for k, ((mean, error), value) in enumerate(zip(found, expected, strict=True)):
        assert abs(mean - value) < 3 * error, f"generation {k}: {mean:.4f} +- {error:.4f}, expected {value:.4f}"
