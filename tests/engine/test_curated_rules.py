"""Curations by detector, distance and features, and rows that are changed, through the loop: points, images, texts."""

from __future__ import annotations

import numpy as np
import pytest

from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load

pytestmark = pytest.mark.slow  # together more than a minute

TOY = """
data: {{use: gaussian, dimensions: 2, rows: 60, held_out_rows: 10}}
model: gaussian
generations: 2
seeds: [3, 4]
arms:
  plain: {{data: accumulate}}
  curated: {{data: accumulate, curation: {rule}}}
metrics: [variance_ratio]
"""
DIGITS = """
data: {{use: digits, rows: 60, held_out_rows: 20}}
model: {model}
train: {{steps: 3, batch_size: 32, evaluate: never}}
generations: 2
seeds: [3]
arms:
  plain: {{data: replace}}
  curated: {{data: replace, curation: {rule}}}
metrics: [test_loss]
"""
VAE = "{use: vae, hidden: 8, latent: 2}"
DDPM = "{use: ddpm, timesteps: 20, schedule: cosine, network: {widths: [8, 16], layers: 1, attention: none}}"
STORIES = """
data: {{use: grammar, rows: 60, held_out_rows: 12}}
model: {{use: causal_lm, preset: tiny, width: 16, layers: 1}}
train: {{steps: 3, batch_size: 16, evaluate: never}}
generations: 2
seeds: [3]
arms:
  plain: {{data: replace}}
  curated: {{data: replace, curation: {rule}}}
metrics: [test_loss]
"""
PAIRS = """
data: {{use: grammar_pairs, rows: 60, held_out_rows: 12}}
model: {{use: seq2seq, preset: tiny, width: 16, layers: 1, decoding: sample}}
train: {{steps: 3, batch_size: 16, evaluate: never}}
generations: 2
seeds: [3]
arms:
  plain: {{data: replace}}
  curated: {{data: replace, curation: {rule}}}
metrics: [test_loss]
"""


def toy(rule):
    return TOY.format(rule=rule)


def digits(rule, model=VAE):
    return DIGITS.format(rule=rule, model=model)


def stories(rule):
    return STORIES.format(rule=rule)


def pairs(rule):
    return PAIRS.format(rule=rule)


CASES = {
    "toy detector": toy("detector"),
    "toy detector exact past": toy("{use: detector, p: exact, b: 1, pool: past}"),
    "toy diversity": toy("diversity"),
    "toy diversity decay past": toy("{use: diversity, method: threshold_decay, pool: past}"),
    "toy random": toy("random"),
    "toy verify": toy("{use: verify, score: truth}"),
    "toy likelihood": toy("likelihood"),
    "toy luce": toy("{use: luce, reward: {kind: linear}}"),
    "toy transport": toy("{use: transport, keep: 0.25}"),
    "toy snap": toy("{use: snap, centres: 5}"),
    "toy pull": toy("{use: pull, strength: 0.5}"),
    "digits detector": digits("detector"),
    "digits diversity": digits("diversity"),
    "digits latent vae": digits("latent"),
    "digits latent ddpm": digits("{use: latent, time: 0.3}", DDPM),
    "digits transport": digits("transport"),
    "digits random": digits("random"),
    "digits verify": digits("{use: verify, loss_draws: 2}"),
    "digits likelihood": digits("{use: likelihood, rank: top}"),
    "digits luce": digits("{use: luce, reward: {kind: class, label: 1}}"),
    "digits snap": digits("{use: snap, centres: 2}"),
    "digits pull": digits("pull"),
    "stories detector": stories("detector"),
    "stories diversity": stories("diversity"),
    "stories transport": stories("transport"),
    "stories random": stories("random"),
    "stories verify": stories("verify"),
    "stories likelihood": stories("likelihood"),
    "stories edit": stories("{use: edit, threshold: 0.001}"),
    "stories edit past": stories("{use: edit, threshold: 0.001, pool: past, by: origin}"),
    "pairs edit": pairs("{use: edit, threshold: 0.001}"),
    "pairs detector": pairs("detector"),
}


@pytest.mark.parametrize("recipe", CASES.values(), ids=CASES.keys())
def test_every_rule_runs_on_every_kind_of_rows_that_it_is_for(sandbox, recipe):
    """And what a generation is fitted to is what the rule kept, and not what an arm without it is fitted to."""
    sandbox.run(recipe)
    experiment = prepare(load(sandbox.root / "recipe.yaml"), sandbox.root / "data")
    plain, curated = (plan.generations for plan in experiment.arm_plans)
    assert plain[0].samples.digest == curated[0].samples.digest
    assert plain[1].fit.digest != curated[1].fit.digest
    lines = [line for line in sandbox.journal(event="scores") if line["arm"] == "curated"]
    assert len(lines) == 3
    assert all(np.isfinite(next(iter(line["metrics"].values()))).all() for line in lines)


@pytest.mark.parametrize(
    "name", ["toy detector", "digits latent ddpm", "digits snap", "stories detector", "stories edit"]
)
def test_the_same_again_elsewhere_is_the_same_to_the_byte(sandbox, name):
    sandbox.run(CASES[name])
    other = type(sandbox)(sandbox.root / "other")
    other.root.mkdir()
    other.run(CASES[name])
    assert sandbox.artefacts() == other.artefacts()


@pytest.mark.parametrize(
    "recipe",
    [
        toy("{use: pull, strength: 0}"),
        toy("{use: transport, keep: 1.0}"),
        toy("{use: diversity, keep: 1.0}"),
        digits("{use: latent, keep: 1.0}"),
        digits("{use: detector, repeats: 1}"),
        stories("{use: edit, threshold: 1.0}"),
    ],
)
def test_what_keeps_all_is_no_curation(sandbox, recipe):
    plain, curated = (plan.generations for plan in prepare(load(sandbox.recipe(recipe)), sandbox.root).arm_plans)
    assert [spec.digest for one in plain for spec in one.specs()] == [
        spec.digest for one in curated for spec in one.specs()
    ]


GROWN = """
data: {use: gaussian, dimensions: 2, rows: 30, held_out_rows: 10}
model: gaussian
generations: 2
seeds: [3, 4]
arms:
  curated: {data: {use: growing, power: 1}, curation: diversity}
metrics: [variance_ratio]
"""


def test_growing_numbers_are_kept_of_growing_numbers_of_candidates(sandbox):
    sandbox.run(GROWN)
    (plan,) = prepare(load(sandbox.root / "recipe.yaml"), sandbox.root / "data").arm_plans
    assert [generation.rows.rows for generation in plan.generations] == [30, 60, 90]
    kept = {
        spec.generation: (spec.rows, spec.candidates)
        for g in plan.generations
        for spec in g.specs()
        if spec.kind == "curation"
    }
    assert kept[0] == (60, 120)
    assert kept[1] == (90, 180)
