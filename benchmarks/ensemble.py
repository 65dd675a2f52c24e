"""What one batched computation over all seeds saves for toy models: python benchmarks/ensemble.py [--seeds N].

The same Gaussian chain under replace, ten generations: through the engine with all seeds as one ensemble, and as the
short NumPy loop over seeds that a user would write. Prints JSON, with the ratio of medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from collapse_sim.core.machine import Machine, open_machine
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.session import Session

RECIPE = """
name: ensemble
data: {use: gaussian, rows: 100}
model: gaussian
generations: 10
seeds: SEEDS
arms: {replace: {data: replace}}
metrics: [variance_ratio]
"""


def numpy_loop(seeds: int, generations: int, rows: int) -> float:
    """Seconds of the chain, one seed after another, storing nothing."""
    started = time.perf_counter()
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal(rows)
        for _ in range(generations):
            x = x.mean() + x.std() * rng.standard_normal(rows)
    return time.perf_counter() - started


def engine(seeds: int, store: Path, machine: Machine) -> float:
    """Seconds of the whole run: simulation, fits, samples, scores, store and journal."""
    path = store / "recipe.yaml"
    path.write_text(RECIPE.replace("SEEDS", str(seeds)))
    started = time.perf_counter()
    Session(prepare(load(path), store), machine, store / "run", store / ".store", store).run(quiet=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    machine = open_machine(options.device, "fp32")
    loops, engines = [], []
    for attempt in range(options.repeats + 1):
        with tempfile.TemporaryDirectory() as scratch:
            pair = numpy_loop(options.seeds, 10, 100), engine(options.seeds, Path(scratch), machine)
        if attempt:
            loops.append(pair[0])
            engines.append(pair[1])
    report = {
        "benchmark": "ensemble",
        "machine": machine.describe(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "seeds": options.seeds,
        "numpy_loop_s": [round(value, 3) for value in loops],
        "engine_s": [round(value, 3) for value in engines],
        "ratio_of_medians": round(statistics.median(engines) / statistics.median(loops), 3),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
