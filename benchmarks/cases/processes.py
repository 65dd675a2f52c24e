"""Several processes on one store: how much faster two of them finish a run, and what a lock costs."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness import Case, Setting, Ways
from collapse_sim.store.lease import lease
from collapse_sim.store.locks import Lock
from collapse_sim.store.machine_lock import MachineLock

ONE = "one process"
FLOCK = "flock alone"
RECIPE = """
name: shared
data: {{use: digits}}
model: {{use: vae, hidden: 128, latent: 8}}
train: {{steps: {steps}, batch_size: 128, evaluate: never}}
generations: {generations}
seeds: 3
arms:
  replace: {{data: replace}}
  accumulate: {{data: accumulate}}
  distill: {{data: replace, teacher: {{generation: 0, weights: {{output: 0.5}}}}}}
  mix: {{data: {{use: mix, real: 0.5}}}}
metrics: [test_loss]
"""


def run_s(folder: Path, recipe: Path, processes: int) -> float:
    """Seconds until all of these processes have ended, from their start; each has one thread, as on a core of its own.

    The run is then finished: they are started with --wait.
    """
    places = ("--out", str(folder / "run"), "--store", str(folder / "store"), "--device", "cpu", "--quiet", "--wait")
    command = (sys.executable, "-m", "collapse_sim", "run", str(recipe), *places)
    started = time.perf_counter()
    running = [
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        for _ in range(processes)
    ]
    messages = [process.communicate()[1] for process in running]
    took_s = time.perf_counter() - started
    for process, text in zip(running, messages, strict=True):
        if process.returncode:
            raise RuntimeError(text.decode(errors="replace").strip().splitlines()[-1])
    return took_s


def prepare_run(setting: Setting) -> Ways:
    """The start of the interpreter and of torch is in all times; by itself it is that of a run without work."""
    steps, generations = (2, 1) if setting.tiny else (800, 2)
    recipe = setting.folder / "shared.yaml"
    recipe.write_text(RECIPE.format(steps=steps, generations=generations), encoding="utf-8")
    numbers, start_s = itertools.count(), list[float]()

    def measured(processes: int) -> float:
        folder = setting.folder / str(next(numbers))
        folder.mkdir()
        took_s = run_s(folder, recipe, processes)
        if processes > 1:
            start_s.append(run_s(folder, recipe, 1))
        return took_s

    return Ways(
        {"two processes": lambda: measured(2), ONE: lambda: measured(1)},
        setting.device.with_precision("auto").precision,
        facts={"arms": 4, "seeds": 3, "generations": generations, "updates": steps, "threads of each": 1},
        also={"start and end of a process without work, s": start_s},
    )


def prepare_lock(setting: Setting) -> Ways:
    """Of a job's lock: between processes and machines, with its file that heartbeats touch, against flock alone."""
    times = 10 if setting.tiny else 500
    (setting.folder / "locks").mkdir()
    mark_us, beat_us = list[float](), list[float]()

    def each_us(lock: MachineLock | Lock) -> float:
        started = time.perf_counter()
        for _ in range(times):
            lock.acquire()
            lock.release()
        return 1e6 * (time.perf_counter() - started) / times

    def of_job() -> float:
        started = time.perf_counter()
        with lease(setting.folder):
            pass
        mark_us.append(1e6 * (time.perf_counter() - started))
        path = setting.folder / "beat"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT)
        started = time.perf_counter()
        for _ in range(times):
            os.utime(handle)
        beat_us.append(1e6 * (time.perf_counter() - started) / times)
        os.close(handle)
        return each_us(MachineLock(setting.folder / "locks" / "job.lock"))

    return Ways(
        {"collapse-sim": of_job, FLOCK: lambda: each_us(Lock(setting.folder / "locks" / "flock.lock"))},
        facts={"locks": times, "file system": "that of TMPDIR"},
        also={"mark of a process, us": mark_us, "heartbeat (every 10 s), us": beat_us},
    )


CASES = (
    Case(
        "processes",
        "4 arms x 3 seeds of digits on two processes of one thread against one, from command to end",
        "s",
        prepare_run,
        better="lower",
        targets={ONE: {"cpu": 1.67}},  # at most 0.6 times the time
        warm_up=False,
        devices=("cpu",),
    ),
    Case(
        "lock",
        "a job's lock between processes and machines, acquired and released",
        "us",
        prepare_lock,
        better="lower",
    ),
)
