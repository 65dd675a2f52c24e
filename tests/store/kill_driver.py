"""Runs, kills and resumes small experiments in forked children: python kill_driver.py MODE FOLDER RECIPE.

Forking after the imports makes a run cost a fraction of a second. Prints a JSON report on its last line.
"""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parents[2]))

from collapse_sim.analysis.documents import run_document  # noqa: E402
from collapse_sim.analysis.results import read_results  # noqa: E402
from collapse_sim.core.machine import open_machine  # noqa: E402
from collapse_sim.engine import checkpoint, fit, pieces  # noqa: E402
from collapse_sim.plan.experiment import prepare  # noqa: E402
from collapse_sim.recipe.loader import load  # noqa: E402
from collapse_sim.run.session import Session  # noqa: E402
from collapse_sim.store import pruning, store  # noqa: E402
from tests.conftest import artefacts  # noqa: E402


def run(folder: Path, recipe: Path, checkpoint_s: float) -> None:
    experiment = prepare(load(recipe), folder)
    Session(experiment, open_machine("cpu", "fp32"), folder / "run", folder / ".store", folder, checkpoint_s).run(
        quiet=True
    )


COMMIT = store.Store._commit


def log_builds(log: Path) -> None:
    """Have this process note every artefact that it starts to build, with its process id."""

    def noting(self: store.Store, jobs: Sequence[store.Job], *rest: object) -> object:
        with log.open("a") as file:
            file.writelines(f"{os.getpid()} {job.spec.digest}/{job.block}\n" for job in jobs)
        return COMMIT(self, jobs, *rest)

    store.Store._commit = noting


def builds(log: Path) -> list[tuple[str, str]]:
    return [tuple(line.split()) for line in log.read_text().splitlines()] if log.exists() else []


def child(work: Callable[[], None]) -> int:
    """Run in a fork; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def each_boundary(action: Callable[[str], None]) -> None:
    for module in (store, checkpoint, pieces, pruning):
        module.boundary = action


def records(folder: Path) -> set[str]:
    """Of what was pruned, as `artefacts` names it."""
    return {"/".join(path.parts[-4:-1]) for path in (folder / ".store").glob("pruned/*/*/*/manifest.json")}


def some_boundaries(folder: Path, recipe: Path) -> dict:
    """Few, for recipes of many artefacts whose own boundaries are tested elsewhere."""
    return boundaries(folder, recipe, every=15)


def boundaries(folder: Path, recipe: Path, every: int = 1) -> dict:
    names: list[str] = []
    log = folder / "names.txt"

    def record(name: str) -> None:
        with log.open("a") as file:
            file.write(name + "\n")

    each_boundary(record)
    reference_folder = folder / "reference"
    run(reference_folder, recipe, 0.0)  # here, not in a fork: the forks then find everything imported
    names = log.read_text().splitlines()
    reference = artefacts(reference_folder / ".store")
    differing, repeated, leftovers = [], [], []
    killed = range(every - 1, len(names), every)
    for n in killed:
        here = folder / f"kill-{n}"
        count = 0

        def kill(name: str, n: int = n) -> None:
            nonlocal count
            if count == n:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

        each_boundary(kill)
        assert wait(child(lambda here=here: run(here, recipe, 0.0))) == -signal.SIGKILL, f"kill {n} did not happen"
        finished = set(artefacts(here / ".store")) | records(here)
        each_boundary(lambda name: None)
        log = here / "builds.txt"

        def resume(here: Path = here, log: Path = log) -> None:
            log_builds(log)
            run(here, recipe, 0.0)

        assert wait(child(resume)) == 0, f"no resume after kill {n} at {names[n]!r}"
        if artefacts(here / ".store") != reference or records(here) != records(reference_folder):
            differing.append([n, names[n]])
        again = [key for _, key in builds(log) if f"{key[:2]}/{key}" in finished]
        if again:
            repeated.append([n, names[n], again])
        left = [str(path) for room in ("tmp", "partial") for path in (here / ".store" / room).iterdir()]
        if left:
            leftovers.append([n, names[n], left])
    return {
        "boundaries": names,
        "kills": len(killed),
        "differing": differing,
        "repeated": repeated,
        "leftovers": leftovers,
    }


def moments(folder: Path, recipe: Path) -> dict:
    """Kill after a random number of training steps, wherever the process then is; every step takes a checkpoint."""
    reference_folder, here, pulse = folder / "reference", folder / "killed", folder / "pulse"
    run(reference_folder, recipe, 0.0)
    backward = fit.backward

    def beating(*args: object, **kwargs: object) -> torch.Tensor:
        with pulse.open("a") as file:
            file.write(".")
        return backward(*args, **kwargs)

    fit.backward = beating
    dice, kills = random.Random(0), 0
    for _ in range(4):
        pulse.write_text("")
        pid, steps = child(lambda: run(here, recipe, 0.0)), dice.randint(15, 35)
        while pulse.stat().st_size < steps and os.waitpid(pid, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.01))
        os.kill(pid, signal.SIGKILL)
        kills += wait(pid) == -signal.SIGKILL
    assert wait(child(lambda: run(here, recipe, 0.0))) == 0
    reference, found = artefacts(reference_folder / ".store"), artefacts(here / ".store")
    return {
        "kills": kills,
        "differing": [key for key in reference if found.get(key) != reference[key]],
        "comparison_equal": compared(reference_folder) == compared(here),
    }


def diffusion(folder: Path, recipe: Path) -> dict:
    """A shard of a diffusion model takes a call of its network for every timestep."""
    from collapse_sim.families.unet import UNet

    return sampling(folder, recipe, UNet, "forward", load(recipe).model.timesteps)


def writing(folder: Path, recipe: Path) -> dict:
    """A shard of full rows takes a language model a call for every token but the first."""
    from transformers import GPT2LMHeadModel

    (length,) = prepare(load(recipe), folder).info.shape("tokens")
    return sampling(folder, recipe, GPT2LMHeadModel, "forward", length - 1)


def sampling(folder: Path, recipe: Path, network: type, method: str, steps: int) -> dict:
    """Kill in the middle of the second shard, then resume; counts the network's calls in sampling."""
    reference_folder, here, calls = folder / "reference", folder / "killed", folder / "calls"
    output = getattr(network, method)

    def counting(last: int = -1) -> None:
        """Note every call that is not a training step; SIGKILL at call number `last`."""
        calls.write_text("")

        @functools.wraps(output)
        def noted(self: torch.nn.Module, *tensors: torch.Tensor, **named: object) -> object:
            if not torch.is_grad_enabled():
                with calls.open("a") as file:
                    file.write(".")
                if calls.stat().st_size == last:
                    os.kill(os.getpid(), signal.SIGKILL)
            return output(self, *tensors, **named)

        setattr(network, method, noted)

    counting()
    run(reference_folder, recipe, 0.0)
    whole = calls.stat().st_size
    counting(last=steps + steps // 2)
    killed = wait(child(lambda: run(here, recipe, 0.0))) == -signal.SIGKILL
    counting()
    assert wait(child(lambda: run(here, recipe, 0.0))) == 0
    reference, found = artefacts(reference_folder / ".store"), artefacts(here / ".store")
    return {
        "killed": killed,
        "differing": [key for key in reference if found.get(key) != reference[key]],
        "steps": steps,
        "calls": whole,
        "calls_after_the_kill": calls.stat().st_size,
    }


def compared(folder: Path) -> str:
    results = read_results(folder / "run")
    return json.dumps(run_document(results, list(results.metrics)))


def together(folder: Path, recipe: Path) -> dict:
    reference_folder, here = folder / "reference", folder / "shared"
    run(reference_folder, recipe, 60.0)
    log = here.with_suffix(".log")

    def share() -> None:
        log_builds(log)
        noting = store.Store._commit

        def meeting(self: store.Store, jobs: Sequence[store.Job], *rest: object) -> object:
            """Hold a fit until the other process builds one too, however late it came."""
            (job,) = jobs
            deadline = time.monotonic() + 30
            with log.open("a") as file:
                file.write(f"{os.getpid()} arrived\n" if job.spec.kind == "fit" else "")
            while job.spec.kind == "fit" and len({pid for pid, what in builds(log) if what == "arrived"}) < 2:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)
            return noting(self, jobs, *rest)

        store.Store._commit = meeting
        run(here, recipe, 60.0)

    codes = [wait(pid) for pid in [child(share), child(share)]]
    reference, found = artefacts(reference_folder / ".store"), artefacts(here / ".store")
    built = [(pid, what) for pid, what in builds(log) if what != "arrived"]
    return {
        "exit_codes": codes,
        "differing": [key for key in reference if found.get(key) != reference[key]],
        "made": len(built),
        "artefacts": len(reference),
        "made_by_each": list(Counter(pid for pid, _ in built).values()),
    }


if __name__ == "__main__":
    mode, folder, recipe = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    modes = {
        "boundaries": boundaries, "some_boundaries": some_boundaries, "moments": moments, "together": together,
        "diffusion": diffusion, "writing": writing,
    }  # fmt: skip
    print(json.dumps(modes[mode](folder, recipe)))
