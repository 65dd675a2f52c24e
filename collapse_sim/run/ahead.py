"""Work of later stages and generations, which a process does while others make what the generation loop waits for.

The loop takes one generation after the other over all arms and seeds. Where several processes share a run, one whose
turn would be to wait goes on with chains that are further on already, as far as everything that they need is there.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from collapse_sim.core.events import Emit, Event, JobFinished
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.keeping import read_by
from collapse_sim.store.blocks import present, recorded_blocks
from collapse_sim.store.jobs import Job, Request
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store
from collapse_sim.store.waiting import POLLED

Make = Callable[[Sequence[Request], Emit], Counter[str]]  # without waiting for other processes


class Ahead:
    """What can begin now, and what was made before the loop came to it."""

    def __init__(self, experiment: Experiment, store: Store, emit: Emit, make: Make) -> None:
        self.generation = -1  # where the loop is: everything of earlier ones is finished or has failed
        self.elsewhere: set[str] = set()  # digests of what this run has another process make (`--overlap`)
        recipe = experiment.recipe
        self._specs, self._seeds, self._store, self._emit, self._make = (
            list(experiment.specs()), recipe.seeds, store, emit, make
        )  # fmt: skip
        self._arms = experiment.arms_by_digest()
        self._all_arms = tuple(plan.name for plan in experiment.arm_plans)
        pruned = {recipe.keep_weights, recipe.keep_samples} != {"all"}
        self._reach = 1 if pruned else recipe.generations + 1  # what is pruned would pile up
        self._here: dict[str, set[int]] = {}  # digest -> seeds (-1: the same for all) that were seen in the store
        self._done: dict[tuple[str, int], bool] = {}  # what was made (False) or has appeared (True) before its turn

    def work(self) -> bool:
        """Make something that can begin now. Returns whether there was anything. Of the locks that others had before,
        a few are asked for."""
        refused: list[tuple[Spec, tuple[int, ...]]] = []
        for spec in self._specs:
            within = self.generation <= spec.generation <= self.generation + self._reach
            if not within or spec.digest in self.elsewhere:
                continue
            seeds = self._ready(spec)
            if not all(self._intact(spec, seed) for seed in seeds):
                return True  # to look again: what was damaged can be made now
            if not seeds or recorded_blocks(self._store.root, spec.digest):  # the loop decides about what was pruned
                continue
            jobs = [seeds] if spec.stacked else [(seed,) for seed in seeds]
            held = [own for own in jobs if self._store.others.had(Job(spec, spec.seeds(own), ()))]
            refused += [(spec, own) for own in held]
            if self._made(spec, tuple(seed for own in jobs if own not in held for seed in own)):
                return True
        few = secrets.SystemRandom().sample(refused, min(POLLED, len(refused)))
        return any(self._made(spec, own) for spec, own in few)

    def _made(self, spec: Spec, seeds: tuple[int, ...]) -> bool:
        """Try to make it. Returns whether something was made, or has appeared."""
        before = len(self._done)
        if seeds:
            arms = tuple(self._arms.get(spec.digest, self._all_arms))
            self._make([Request(spec, spec.seeds(seeds), arms)], self._note)
        return len(self._done) > before

    def taken(self, requests: Iterable[Request]) -> tuple[list[Request], Counter[str]]:
        """The requests without what was made or has appeared ahead of the loop, and how much of both that was."""
        counts: Counter[str] = Counter()
        left: list[Request] = []
        counted: set[tuple[str, int]] = set()
        for request in requests:
            seeds = request.seeds if request.spec.seeded else (-1,)
            early = {seed for seed in seeds if (request.spec.digest, seed) in self._done}
            for seed in early:
                key = (request.spec.digest, seed)
                if key not in counted:
                    counts["reused" if self._done[key] else "made"] += 1
                    counted.add(key)
            rest = tuple(seed for seed in seeds if seed not in early)
            if rest:
                left.append(Request(request.spec, request.spec.seeds(rest), request.arms))
        for key in counted:
            del self._done[key]
        return left, counts

    def _ready(self, spec: Spec) -> tuple[int, ...]:
        """The seeds (-1: the same for all) that are missing, while everything that they are made from is there."""
        seeds = self._seeds if spec.seeded else (-1,)
        here = self._here.setdefault(spec.digest, set())
        lacking = [seed for seed in seeds if seed not in here and self._has_parents(spec, seed)]
        if lacking:
            here |= present(self._store.root, spec.digest)
        failures = self._store.failures
        return tuple(seed for seed in lacking if seed not in here and not failures.blocks(spec, seed))

    def _parents(self, spec: Spec, seed: int) -> Iterator[tuple[Spec, tuple[int, ...]]]:
        """What it is made from, with the seeds; the loop has seen to those of earlier generations."""
        for parent in read_by(spec):
            if parent.generation >= self.generation:
                yield parent, (seed,) if parent.seeded and seed >= 0 else self._seeds if parent.seeded else (-1,)

    def _has_parents(self, spec: Spec, seed: int) -> bool:
        """By name."""
        return all(
            self._here.get(parent.digest, set()).issuperset(needed) for parent, needed in self._parents(spec, seed)
        )

    def _intact(self, spec: Spec, seed: int) -> bool:
        """Whether what it is made from is undamaged; what is not is removed, and made again."""
        intact = True
        for parent, needed in self._parents(spec, seed):
            damaged = self._store.missing(parent, needed, self._emit)
            self._here[parent.digest].difference_update(damaged)
            intact = intact and not damaged
        return intact

    def _note(self, event: Event) -> None:
        if isinstance(event, JobFinished):
            self._done |= {(event.digest, seed): event.reused for seed in event.seeds or (-1,)}
        self._emit(event)
