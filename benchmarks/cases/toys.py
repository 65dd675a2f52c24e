"""Toys: a chain of Gaussians against a NumPy loop that keeps nothing, and what a generation costs by itself."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.engine import run
from benchmarks.harness import Case, Setting, Ways

LOOP = "a NumPy loop that keeps nothing"
ROWS = 100
RECIPE = """
name: toys
data: {use: gaussian, rows: 100}
model: gaussian
generations: GENERATIONS
seeds: SEEDS
arms: ARMS
metrics: [variance_ratio]
"""


def numpy_loop(seeds: int, generations: int) -> float:
    """Seconds of replaced chains, one seed after another."""
    started = time.perf_counter()
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal(ROWS)
        for _ in range(generations):
            x = x.mean() + x.std() * rng.standard_normal(ROWS)
    return time.perf_counter() - started


def chains(setting: Setting) -> Ways:
    seeds, generations = setting.sized(1000, 1000, 3), setting.sized(50, 50, 2)

    def ours() -> float:
        arms = "{replace: {data: replace}}"
        finished = run(setting, RECIPE, seeds=seeds, generations=generations, arms=arms)
        return seeds * generations / finished.wall_s

    return Ways(
        {"collapse-sim": ours, LOOP: lambda: seeds * generations / numpy_loop(seeds, generations)},
        "fp64",
        facts={"seeds": seeds, "generations": generations, "rows": ROWS},
    )


def own_cost(setting: Setting) -> Ways:
    """Time per generation and arm, from two lengths, so that what a run costs once is left out. One seed of 100 rows
    takes microseconds to compute: the rest is planning, storing and flushing to disk, the journal and events."""
    shorter, longer = setting.sized(10, 10, 1), setting.sized(40, 40, 2)
    arms = {"replace": "replace", "accumulate": "accumulate"}
    text = "{" + ", ".join(f"{name}: {{data: {strategy}}}" for name, strategy in arms.items()) + "}"

    def ours() -> float:
        walls = [run(setting, RECIPE, seeds=1, generations=k, arms=text).wall_s for k in (shorter, longer)]
        return 1e3 * (walls[1] - walls[0]) / ((longer - shorter) * len(arms))

    return Ways({"collapse-sim": ours}, "fp64", facts={"generations": [shorter, longer], "arms": len(arms)})


CASES = (
    Case(
        "toys",
        "1,000 seeds of a Gaussian under replace over 50 generations, everything stored and scored",
        "generations x seeds/s",
        chains,
        targets={LOOP: {"cpu": 2}},
        devices=("cpu",),
    ),
    Case(
        "overhead",
        "what a generation of an arm costs by itself: plan, store, journal, events",
        "ms per generation and arm",
        own_cost,
        better="lower",
        at_most={"cpu": 3, "cuda": 3},
    ),
)
