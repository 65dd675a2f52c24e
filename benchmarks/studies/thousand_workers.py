"""A thousand processes on one store: python -m benchmarks.studies.thousand_workers [--workers N] > workers.json

Two parts. First, operations on the store's and the run's folders are counted in real runs of a toy: when a process
starts, for each artefact that it makes, for each that it meets because another process has made it, and for each round
of waiting. `stat` counts, as a network file system may have to ask for it; reading and writing of contents do not.

Then a simulation: workers take jobs from chains (a job can begin when the one before it in its chain is finished, and
those of earlier generations come first), work, and commit. All their operations, heartbeats included, are served one
after the other at the rate of the file system's metadata server, which is an assumption. Jobs take 1 s, 10 s, 1 min,
10 min, or times between 1 s and 10 min that are uniform in their logarithm. `alone`: each worker has seeds of its own
(--seed in a job array) and meets only their artefacts; `together`: all workers walk through the whole run, so each
meets what all others have made. What processes write into a run directory that they share is not simulated.

Prints JSON and, on stderr, a table: the share of the time that workers compute, operations a second, and what limits.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from collapse_sim.core.machine import open_device
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.run.session import Session
from collapse_sim.store import lease, machine_lock, waiting
from collapse_sim.store.machine_lock import MachineLock
from collapse_sim.ui.console import say

RECIPE = """
name: counted
data: {use: digits, rows: 200, held_out_rows: 50}
model: {use: vae, hidden: 8, latent: 2}
train: {steps: 2, batch_size: 32, evaluate: never}
samples: 50
generations: 3
seeds: 3
arms: {replace: {data: replace}, accumulate: {data: accumulate}}
metrics: [test_loss]
"""
COUNTED = (
    "open", "stat", "lstat", "listdir", "scandir", "mkdir", "rmdir", "rename", "replace", "unlink", "remove", "link",
    "utime", "fsync",
)  # fmt: skip
RATES = (1_000, 10_000, 50_000)  # operations a second that a metadata server is assumed to serve
LENGTHS = {"1 s": 1.0, "10 s": 10.0, "1 min": 60.0, "10 min": 600.0, "1 s to 10 min": None}
JOBS = 20  # of each worker, in the mean


class Costs(NamedTuple):
    """Operations, measured."""

    start: float  # of a process: the store, the run directory, its own mark
    made: float  # by an artefact that it makes: find it missing, lock, write, commit
    met: float  # by an artefact that another process has made: list it, and compare its files with their hashes
    asked: float  # by a lock that another process has


@contextmanager
def counting(root: Path) -> Iterator[Counter[str]]:
    """Operations on paths below `root`, and on open files, by name."""
    counts: Counter[str] = Counter()
    plain = {name: getattr(os, name) for name in COUNTED}
    inside = str(root)

    def counted(name: str) -> Any:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            if isinstance(path, int) or str(os.fspath(path)).startswith(inside):
                counts[name] += 1
            return plain[name](path, *args, **options)

        return call

    def heard(event: str, arguments: Sequence[Any]) -> None:  # `open` in Python is no function of os
        if active and event == "open" and isinstance(arguments[0], str) and arguments[1] is not None:
            counts["open"] += str(arguments[0]).startswith(inside)
        elif active and event == "fcntl.flock":
            counts["flock"] += 1

    active = [True]
    for name in COUNTED:
        setattr(os, name, counted(name))
    sys.addaudithook(heard)
    try:
        yield counts
    finally:
        active.clear()
        for name, function in plain.items():
            setattr(os, name, function)


def counted_run(root: Path, seeds: int, generations: int, out: str) -> tuple[Counter[str], int]:
    """Operations of one process that runs the toy, without its data directory, and the number of its artefacts."""
    text = RECIPE.replace("seeds: 3", f"seeds: {seeds}").replace("generations: 3", f"generations: {generations}")
    recipe = root / f"{out}.yaml"
    recipe.write_text(text, encoding="utf-8")
    experiment = prepare(load(recipe), root / "data")
    places = root / "shared" / out, root / "shared" / "store", root / "data"
    with counting(root / "shared") as counts:
        result = Session(experiment, open_device("cpu"), *places).run(quiet=True)
    return counts, result["made"] + result["reused"]


def measured(root: Path) -> tuple[Costs, dict[str, dict[str, int]]]:
    """The costs, and what they consist of."""
    made, artefacts = counted_run(root, 3, 3, "made")
    met, _ = counted_run(root, 3, 3, "met")  # of another run on the same store, so of a process that finds everything
    one, few = counted_run(root, 1, 1, "one")
    each_met = (sum(met.values()) - sum(one.values())) / (artefacts - few)
    start = sum(one.values()) - few * each_met
    each_made = (sum(made.values()) - start) / artefacts
    path = root / "shared" / "store" / "locks" / "asked.lock"
    with machine_lock.locked(path), counting(root / "shared") as asked:
        lock = MachineLock(path)
        for _ in range(10):
            try:
                lock.acquire(timeout=0)
            except machine_lock.Timeout:
                continue
    each_asked = sum(asked.values()) / 10
    kinds = {"made": dict(made), "met": dict(met), "asked, 10 times": dict(asked)}
    return Costs(start, each_made, each_met, each_asked), kinds


class Outcome(NamedTuple):
    """One simulation."""

    busy: float  # share of the workers' time in which they compute
    per_s: float  # operations a second
    served: float  # share of the time in which the server is at work
    parts: Mapping[str, float]  # shares of the operations
    waited: float  # share of the time without a job that could begin


def simulate(workers: int, chains: int, length_s: float | None, rate: float, costs: Costs, met: int) -> Outcome:
    """Workers on chains until all jobs are done. `met`: for each artefact made, so many workers meet it later on."""
    draws = np.random.default_rng([workers, chains, int(rate)])
    total = workers * JOBS
    left = [total // chains + (chain < total % chains) for chain in range(chains)]
    ready = [(-left[chain], chain) for chain in range(chains) if left[chain]]  # earlier generations first
    heapq.heapify(ready)
    beats = workers * (1 / machine_lock.BEAT_S + 1 / lease.BEAT_S)
    if beats >= rate:
        return Outcome(0.0, rate, 1.0, {"heartbeats": 1.0}, 0.0)
    each_s = 1 / (rate - beats)  # what heartbeats leave of the server
    events: list[tuple[float, int, str, int]] = [(0.0, worker, "start", -1) for worker in range(workers)]
    heapq.heapify(events)
    free_at = 0.0
    idle_since: dict[int, float] = {}
    computed = waited = now = 0.0
    operations: Counter[str] = Counter()
    done = 0

    def ask(kind: str, count: float) -> float:
        """When the server has served so many operations more."""
        nonlocal free_at
        operations[kind] += count
        free_at = max(free_at, now) + count * each_s
        return free_at

    while events and done < total:
        now, worker, what, chain = heapq.heappop(events)
        if what == "start":
            heapq.heappush(events, (ask("start", costs.start), worker, "look", -1))
        elif what == "end":
            end = ask("made", costs.made)
            ask("met", met * costs.met)  # by others, in their own time: they keep the server busy
            heapq.heappush(events, (end, worker, "committed", chain))
        elif what == "committed":
            done += 1
            left[chain] -= 1
            if left[chain]:
                heapq.heappush(ready, (-left[chain], chain))
            heapq.heappush(events, (now, worker, "look", -1))
        elif ready:
            chosen = heapq.heappop(ready)[1]
            if worker in idle_since:
                waited += now - idle_since.pop(worker)
            took_s = length_s or math.exp(draws.uniform(0.0, math.log(600.0)))
            computed += took_s
            heapq.heappush(events, (now + took_s, worker, "end", chosen))
        else:
            since = idle_since.setdefault(worker, now)
            asked = ask("asked", waiting.POLLED * costs.asked)
            pause = max(waiting.SHORTEST_S, waiting.SHARE * (now - since), (asked - now) / waiting.SHARE)
            heapq.heappush(events, (asked + min(pause, waiting.LONGEST_S), worker, "look", -1))
    operations["heartbeats"] = beats * now
    everything = sum(operations.values())
    shares = {kind: count / everything for kind, count in operations.items()}
    return Outcome(
        computed / (workers * now), everything / now, min(1.0, everything / now / rate), shares,
        (waited + sum(now - since for since in idle_since.values())) / (workers * now),
    )  # fmt: skip


def limit_of(outcome: Outcome) -> str:
    """What keeps workers from computing."""
    if outcome.busy > 0.9:
        return "nothing"
    if outcome.served > 0.9:
        return "the file system: " + max(outcome.parts, key=lambda kind: outcome.parts[kind])
    return "too few jobs that can begin" if outcome.waited > 0.05 else "the file system, at the start"


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield f"{'jobs of':>14} {'':>9} {'rate':>7} {'computing':>9} {'ops/s':>9} {'server':>7}  limit"
    for row in rows:
        yield (
            f"{row['length']:>14} {row['mode']:>9} {row['rate']:>7,} {row['busy']:>8.0%} {row['per_s']:>10,.0f} "
            f"{row['served']:>7.0%}  {row['limit']}"
        )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--chains", type=int, default=2000, help="arms x seeds")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="workers-") as folder:
        costs, kinds = measured(Path(folder))
    say(", ".join(f"{name} {value:.0f}" for name, value in costs._asdict().items()) + " operations")
    rows = []
    for name, length_s in LENGTHS.items():
        for mode, met in (("alone", 0), ("together", arguments.workers - 1)):
            for rate in RATES:
                outcome = simulate(arguments.workers, arguments.chains, length_s, rate, costs, met)
                rows.append(
                    {"length": name, "mode": mode, "rate": rate, **outcome._asdict(), "limit": limit_of(outcome)}
                )
    for text in table(rows):
        say(text)
    document = {"workers": arguments.workers, "chains": arguments.chains, "costs": costs._asdict(), "counted": kinds}
    print(json.dumps(document | {"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
