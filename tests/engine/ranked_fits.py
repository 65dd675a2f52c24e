"""Recipes of fits that several ranks make together, and the models that they leave in a store."""

from __future__ import annotations

import json
import os

from safetensors.torch import load_file

from collapse_sim.core import ranks as ranks_module
from collapse_sim.engine.member import Member
from tests.rank_pool import changed_method, run_together

TRAIN = "steps: 20, batch_size: 14, evaluate: every 10 steps, accumulate: 2, ema: 0.9, clip_norm: 1.0"
RECIPE = """
name: ranks
data: {{{data}}}
model: {{{model}}}
train: {{{train}}}
samples: 30
sampling: {{shard: 7}}
generations: 1
seeds: [3]
arms: {{taught: {{data: replace, teacher: {{generation: 0, weights: {weights}}}}}}}
metrics: [test_loss]
"""
DIGITS = "use: digits, rows: 43, held_out_rows: 20"  # the last batch of an epoch has one row, and rank 1 none
VAE = {"data": DIGITS, "model": "use: vae, hidden: 16, latent: 2", "weights": "{output: 0.5, mean: 1.0}"}
FAMILIES = {
    "vae": VAE,
    "ddpm": {
        "data": "use: gaussian, dimensions: 2, rows: 40, held_out_rows: 20",
        "model": "use: ddpm, network: {widths: [8, 8]}, timesteps: 30",
        "weights": "{output: 0.5}",
    },
    "causal_lm": {
        "data": "use: grammar, rows: 40, held_out_rows: 12",
        "model": "use: causal_lm, preset: tiny, width: 16, layers: 1",
        "weights": "{logits: 0.5}",
    },
    "seq2seq": {
        "data": "use: grammar_pairs, rows: 40, held_out_rows: 12",
        "model": "use: seq2seq, preset: tiny, width: 16, layers: 1, decoding: sample",
        "weights": "{logits: 0.5}",
    },
}


def recipe(family=None, **settings):
    return RECIPE.format(**{"train": TRAIN, **(family or VAE), **settings})


def fits(root):
    """{digest: (weights, history, manifest)} of the models in a store."""
    of = {}
    for path in sorted((root / ".store").glob("objects/*/*/*/manifest.json")):
        manifest = json.loads(path.read_text())
        if manifest["kind"] == "fit":
            history = json.loads((path.parent / "history.json").read_text())
            of[manifest["digest"]] = load_file(path.parent / "model.safetensors"), history, manifest
    return of


def stopped(ranks, path, root, number):
    """A run in which rank 1 alone gets a signal, after the fourth step of the first fit."""

    def signalled(before):
        def inputs(self, step):
            if ranks.rank and step == 4:
                os.kill(os.getpid(), number)
            return before(self, step)

        return inputs

    at_every_step = changed_method(ranks_module, "PAUSE_S", lambda _: 0.0)
    with at_every_step, changed_method(Member, "inputs", signalled):
        return run_together(ranks, path, root)
