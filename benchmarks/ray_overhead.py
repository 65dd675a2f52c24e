"""What a task on Ray costs beside its work: `python -m benchmarks.ray_overhead`, on an idle machine.

Three times, each the median of many tasks one after the other on a local cluster of one CPU: of a task that does
nothing; of a task that finds its artefact in the store (hashes verified before); and of the fit of a VAE to digits,
made by a task and by this process.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TASKS = 200
RECIPE: dict[str, Any] = {
    "name": "ray-overhead",
    "data": {"use": "digits", "rows": 1000, "held_out_rows": 200},
    "model": {"use": "vae", "hidden": 128, "latent": 8},
    "train": {"steps": 400, "batch_size": 64, "evaluate": "never"},
    "samples": 1000,
    "generations": 1,
    "seeds": list(range(6)),
    "arms": {"replace": {"data": "replace"}},
    "metrics": ["test_loss"],
}


def median_s(action: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> None:
    import ray

    from collapse_sim.core.machine import open_device
    from collapse_sim.core.ranks import Ranks
    from collapse_sim.plan.experiment import prepare
    from collapse_sim.recipe.loader import load
    from collapse_sim.run.crew import hired
    from collapse_sim.run.ray_messages import Exchange
    from collapse_sim.run.ray_worker import Workshop, make_jobs
    from collapse_sim.run.run_place import RayPlace
    from collapse_sim.store.failures import Failures
    from collapse_sim.store.store import Store

    with tempfile.TemporaryDirectory(prefix="ray-overhead-") as scratch:
        folder = Path(scratch)
        device, experiment = open_device("cpu"), prepare(load(RECIPE), folder)
        store = folder / "store"
        Store(store)
        place = RayPlace("local")
        options: dict[str, Any] = {"plugins": None, "checkpoint_s": 60.0, "together": 1, "compiled": "off"}
        with hired(place, experiment, device, store, folder, **options) as crew:
            order, exchange = ray.put(crew.order), ray.remote(Exchange).options(num_cpus=0).remote()
            nothing, task = ray.remote(_nothing), ray.remote(make_jobs)

            def run(job: tuple[str, tuple[int, ...], tuple[str, ...]]) -> None:
                outcome = ray.get(task.remote(order, [job], 1, False, exchange))
                assert outcome.ended is None, outcome.ended
                assert not outcome.failed, outcome.failed

            data, fit = (next(spec for spec in experiment.specs() if spec.kind == kind) for kind in ("data", "fit"))
            run((data.digest, data.seeds((0,)), ("replace",)))
            run((fit.digest, (0,), ("replace",)))
            seeds = iter(experiment.recipe.seeds[1:])
            ray.get(nothing.remote())
            empty_s = median_s(lambda: ray.get(nothing.remote()), TASKS)
            there_s = median_s(lambda: run((fit.digest, (0,), ("replace",))), TASKS)
            workshop = Workshop(crew.order)

            def here() -> None:
                workshop.work([(fit.digest, (next(seeds),), ("replace",))], 1, "cpu", _unseen, Failures(), Ranks())

            here()  # warms up
            by_task_s, here_s = [], []
            for _ in range(2):
                by_task_s.append(median_s(lambda: run((fit.digest, (next(seeds),), ("replace",))), 1))
                here_s.append(median_s(here, 1))
    print(f"a task that does nothing: {1e3 * empty_s:.1f} ms")
    print(f"a task that finds its artefact: {1e3 * there_s:.1f} ms")
    print(f"the fit by a task: {min(by_task_s):.2f} s; by this process: {min(here_s):.2f} s")
    print(f"share of a task's own cost in such a fit: {there_s / min(here_s):.1%}")


def _nothing() -> None:
    return None


def _unseen(event: object) -> None:
    """Nobody looks."""


if __name__ == "__main__":
    main()
