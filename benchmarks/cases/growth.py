"""Cost must grow as the work grows: arms, seeds, generations and memory of a small VAE on digits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.engine import Finished, image_rows, run
from benchmarks.harness import Case, Setting, Ways
from collapse_sim.core.machine import open_device

RECIPE = """
name: growth
data: {use: digits}
model: {use: vae, hidden: 64, latent: 8}
train: {steps: 15, batch_size: 128, evaluate: never}
samples: 500
generations: GENERATIONS
seeds: SEEDS
arms: ARMS
metrics: [test_loss]
"""
MEMORY = """
name: memory
data: {use: image_folder, path: images.npy, held_out: 100}
model: {use: vae, hidden: 64, latent: 8}
train: {steps: 5, batch_size: 128, evaluate: never}
samples: ROWS
generations: GENERATIONS
seeds: [0]
arms: {accumulate: {data: accumulate}}
metrics: [test_loss]
"""
REPLACE = "{replace: {data: replace}}"
LINEAR = 0.9  # times the cost per fit of smaller experiments, so that measurements may scatter by a tenth


def _distilled(arms: int) -> str:
    """That many arms of equal cost."""
    teachers = (f"{{generation: 0, weights: {{output: {(i + 1) / arms:.4f}}}}}" for i in range(arms))
    return "{" + ", ".join(f"a{i}: {{data: replace, teacher: {t}}}" for i, t in enumerate(teachers)) + "}"


def _curve(setting: Setting, unit: str, sizes: tuple[int, ...], grow: Callable[[int], Finished]) -> Ways:
    """Milliseconds per fit with everything that belongs to it; the largest experiment is ours."""
    chosen = sizes[:2] if setting.tiny else sizes
    grow(chosen[0])  # what the first run in a process pays once, such as imports

    def cost(size: int) -> float:
        finished = grow(size)
        return 1e3 * finished.wall_s / finished.count("fit")

    return Ways(
        {f"{size} {unit}{'s' * (size > 1)}": partial(cost, size) for size in reversed(chosen)},
        setting.device.with_precision("auto").precision,
    )


def arms(setting: Setting) -> Ways:
    return _curve(
        setting, "arm", (1, 4, 16), lambda n: run(setting, RECIPE, arms=_distilled(n), seeds=1, generations=1)
    )


def seeds(setting: Setting) -> Ways:
    return _curve(setting, "seed", (1, 8, 32), lambda n: run(setting, RECIPE, arms=REPLACE, seeds=n, generations=1))


def generations(setting: Setting) -> Ways:
    return _curve(
        setting, "generation", (1, 5, 20), lambda n: run(setting, RECIPE, arms=REPLACE, seeds=1, generations=n)
    )


def replaced(setting: Setting) -> Ways:
    """The last generation's and the first one's time in the same runs."""
    last = setting.sized(20, 20, 2)
    walls: dict[int, float] = {}

    def chain() -> float:
        finished = run(setting, RECIPE, arms=REPLACE, seeds=setting.sized(3, 3, 1), generations=last)
        walls.update({x["generation"]: x["wall_s"] for x in finished.journal if x["event"] == "generation"})
        return 1e3 * walls[last]

    return Ways(
        {f"generation {last}": chain, "generation 1": lambda: 1e3 * walls[1]},
        setting.device.with_precision("auto").precision,
    )


def peak_mib(folder: str, device: str, rows: int, last: int) -> float:
    """Peak resident memory of this process after `last` accumulated generations; for a process of its own."""
    import resource

    setting = Setting(open_device(device), Path(folder))
    run(setting, MEMORY, rows=rows, generations=last)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(setting: Setting) -> Ways:
    rows, last = setting.sized(8000, 8000, 20), setting.sized(20, 20, 2)
    image_rows(setting.folder, rows, (32, 32, 1))
    device = str(setting.device.device)

    def peak(generations: int) -> float:
        arguments = f"{str(setting.folder)!r}, {device!r}, {rows}, {generations}"
        code = f"from benchmarks.cases.growth import peak_mib; print(peak_mib({arguments}))"
        done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return float(done.stdout.split()[-1])

    return Ways(
        {f"{last} generations": lambda: peak(last), "1 generation": lambda: peak(1)},
        setting.device.with_precision("auto").precision,
        facts={"rows per generation": rows, "bytes per generation": 1024 * rows},
    )


def _case(name: str, compares: str, prepare: Callable[[Setting], Ways], peers: tuple[str, ...]) -> Case:
    targets = {peer: {"cpu": LINEAR, "cuda": LINEAR} for peer in peers}
    return Case(name, compares, "ms per fit", prepare, better="lower", targets=targets, warm_up=False)


CASES = (
    _case("growth-arms", "16 distilled arms against fewer, whole runs", arms, ("1 arm", "4 arms")),
    _case("growth-seeds", "32 seeds against fewer, whole runs", seeds, ("1 seed", "8 seeds")),
    _case(
        "growth-generations", "20 generations against fewer, whole runs", generations, ("1 generation", "5 generations")
    ),
    Case(
        "growth-replace",
        "generation 20 of replace against generation 1",
        "ms per generation",
        replaced,
        better="lower",
        targets={"generation 1": {"cpu": LINEAR, "cuda": LINEAR}},
    ),
    Case(
        "growth-memory",
        "peak memory of accumulate, generations 0 to 20 against 0 to 1, the same batch",
        "MiB",
        memory,
        better="lower",
        targets={"1 generation": {"cpu": 0.95, "cuda": 0.95}},
        warm_up=False,
        devices=("cpu",),
    ),
)
