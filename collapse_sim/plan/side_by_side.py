"""How much of an experiment can be made side by side: its jobs, what each of them waits for, and how long they take on
several slots (processes, GPUs, workers)."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from collapse_sim.plan.costs import Rate, kind_of_spec, seconds
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.keeping import read_by
from collapse_sim.store.jobs import Request, split
from collapse_sim.store.spec import Spec


@dataclass(frozen=True)
class Task:
    """A piece of work that one slot does, once the tasks named in `after` are finished."""

    name: str
    seconds: float
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Schedule:
    """When each task starts, and where. A task of 0 seconds takes no slot."""

    slots: int
    starts_s: Mapping[str, float]
    places: Mapping[str, int]  # {task: slot, from 0}
    makespan_s: float  # from the start of the first to the end of the last task
    work_s: float  # the sum of all tasks: the makespan on one slot
    critical_s: float  # the longest chain of tasks that wait for each other: no number of slots is faster

    @property
    def widest(self) -> int:
        """The most slots that are busy at one time."""
        return len(set(self.places.values()))


def schedule(tasks: Sequence[Task], slots: int) -> Schedule:
    """List scheduling by the critical path: a slot that is free takes the task that is ready and has the longest
    chain behind it, among equals the first one.

    The makespan is at most work / slots + (1 - 1 / slots) * critical (Graham, Bounds on Multiprocessing Timing
    Anomalies, 1969, whose bound holds for any list). Raises ValueError for tasks of equal name, of negative or infinite
    duration, that wait for unknown ones or in a circle, and for less than one slot.
    """
    if slots < 1:
        raise ValueError(f"{slots} slots: at least 1 is needed")
    order = _parents_first(tasks)
    followers: dict[str, list[str]] = {task.name: [] for task in tasks}
    for task in tasks:
        for name in dict.fromkeys(task.after):
            followers[name].append(task.name)
    by_name = {task.name: task for task in tasks}
    chain_s: dict[str, float] = {}
    for name in reversed(order):
        chain_s[name] = by_name[name].seconds + max((chain_s[follower] for follower in followers[name]), default=0.0)
    position = {task.name: number for number, task in enumerate(tasks)}
    waits_for = {task.name: len(set(task.after)) for task in tasks}
    ready = [(-chain_s[name], position[name], name) for name, count in waits_for.items() if not count]
    heapq.heapify(ready)
    free, running = list(range(min(slots, len(tasks)))), list[tuple[float, int, str]]()
    starts_s: dict[str, float] = {}
    places: dict[str, int] = {}
    now = 0.0

    def finish(name: str) -> None:
        for follower in followers[name]:
            waits_for[follower] -= 1
            if not waits_for[follower]:
                heapq.heappush(ready, (-chain_s[follower], position[follower], follower))

    while ready or running:
        held = []
        while ready:
            entry = heapq.heappop(ready)
            name = entry[2]
            if by_name[name].seconds == 0:
                starts_s[name] = now
                finish(name)
            elif free:
                starts_s[name], places[name] = now, heapq.heappop(free)
                heapq.heappush(running, (now + by_name[name].seconds, position[name], name))
            else:
                held.append(entry)
        ready = held  # sorted, hence a heap
        if running:
            now = running[0][0]
            while running and running[0][0] == now:
                name = heapq.heappop(running)[2]
                heapq.heappush(free, places[name])
                finish(name)
    work_s = math.fsum(task.seconds for task in tasks)
    return Schedule(slots, starts_s, places, now, work_s, max(chain_s.values(), default=0.0))


def _parents_first(tasks: Sequence[Task]) -> list[str]:
    """The names, each behind those that it waits for. Raises ValueError as `schedule` does."""
    left: dict[str, set[str]] = {}
    for task in tasks:
        if task.name in left:
            raise ValueError(f"two tasks are named {task.name}")
        if not 0 <= task.seconds < math.inf:
            raise ValueError(f"{task.name} takes {task.seconds} seconds: from 0 and finite is allowed")
        left[task.name] = set(task.after)
    followers: dict[str, list[str]] = {}
    for name, after in left.items():
        for other in after:
            if other not in left:
                raise ValueError(f"{name} waits for {other}, which is no task")
            followers.setdefault(other, []).append(name)
    order = [name for name, after in left.items() if not after]
    for name in order:  # which grows
        for follower in followers.get(name, ()):
            left[follower].discard(name)
            if not left[follower]:
                order.append(follower)
    if len(order) < len(left):
        circle = sorted(name for name, after in left.items() if after)
        raise ValueError(f"tasks wait for each other in a circle: among {', '.join(circle[:5])}")
    return order


def tasks_of(
    experiment: Experiment, missing: Callable[[Spec], Collection[int]], rates: Mapping[str, Rate]
) -> list[Task]:
    """One task for each job of the store, parents first: "DIGEST/BLOCK" as its folder is named.

    `missing`: the seeds (-1: the same for all) that are still to be made (`keeping.seeds_to_come`); `rates` are by
    `kind_of_spec`, and a kind without one takes 0 seconds, as in `costs.predict`.
    """
    tasks: list[Task] = []
    made_by: dict[str, dict[int, str]] = {}  # digest -> seed -> task
    for spec in experiment.specs():
        seeds = tuple(sorted(missing(spec)))
        own = made_by.setdefault(spec.digest, {})
        rate = rates.get(kind_of_spec(spec))
        for job in split(Request(spec, experiment.recipe.seeds, ()), seeds):
            name = f"{spec.digest}/{job.block}"
            after: dict[str, None] = {}
            for parent in read_by(spec):
                makers = made_by.get(parent.digest, {})
                needed = (-1,) if not parent.seeded else job.seeds or tuple(makers)
                after |= dict.fromkeys(makers[seed] for seed in needed if seed in makers)
            own |= dict.fromkeys(job.seeds or (-1,), name)
            tasks.append(Task(name, seconds(spec, len(job.seeds) or 1, rate) if rate else 0.0, tuple(after)))
    return tasks
