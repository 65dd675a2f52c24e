"""Artefacts that failed in this process, and those that depend on them: one failed cell never ends the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from collapse_sim.core.errors import CollapseSimError, DivergedError
from collapse_sim.core.memory_errors import first_line
from collapse_sim.store.jobs import Job, where
from collapse_sim.store.spec import Spec


@dataclass(frozen=True)
class Failure:
    """A job that raised an exception, and the affected seeds (() when its artefact is the same for all)."""

    job: Job
    seeds: tuple[int, ...]
    error: Exception

    @property
    def diverged(self) -> bool:
        """Whether it is a result: the chain ends here, its scores are nan, and making it again changes nothing."""
        return isinstance(self.error, DivergedError)

    @property
    def generation(self) -> int:
        return self.job.spec.generation

    @property
    def message(self) -> str:
        if isinstance(self.error, CollapseSimError):
            return str(self.error)
        return f"{where(self.job, self.seeds)}: {type(self.error).__name__}: {first_line(self.error)}"


class Failures:
    """Failures by artefact. Code that makes artefacts calls `blocks` for each, parents first."""

    def __init__(self) -> None:
        self._all: list[Failure] = []
        self._causes: dict[tuple[str, int], Failure] = {}
        self._seeds: set[int] = set()  # of all causes

    def add(self, job: Job, error: Exception) -> Failure:
        """Record that a job raised `error`: for all its seeds, or for those that a DivergedError names."""
        named = error.seeds if isinstance(error, DivergedError) else ()
        seeds = tuple(seed for seed in job.seeds if seed in named) or job.seeds
        failure = Failure(job, seeds, error)
        self._all.append(failure)
        for seed in seeds or (-1,):
            self._causes[job.spec.digest, seed] = failure
            self._seeds.add(seed)
        return failure

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._all)

    def blocks(self, spec: Spec, seed: int) -> bool:
        """Whether a missing artefact cannot be made: it failed itself, or something that it is made from failed."""
        if self._seeds.isdisjoint((seed, -1)):
            return False
        address = (spec.digest, seed if spec.seeded else -1)
        if address not in self._causes:
            inherited = next(filter(None, (self.cause(parent, seed) for parent in spec.parents)), None)
            if inherited is None:
                return False
            self._causes[address] = inherited
        return True

    def cause(self, spec: Spec, seed: int) -> Failure | None:
        """Why an artefact was not made, if it was tried or `blocks` was called for it; None if nothing prevents it."""
        return self._causes.get((spec.digest, seed if spec.seeded else -1))

    def diverged(self) -> list[Failure]:
        return [failure for failure in self._all if failure.diverged]

    def others(self) -> list[Failure]:
        """Failures that may not recur: out of memory, a bug, a plug-in that raises."""
        return [failure for failure in self._all if not failure.diverged]


def missing_of(spec: Spec, missing: Iterable[int], failures: Failures) -> tuple[int, ...]:
    """The seeds of `missing` for which the artefact can be made."""
    if not failures:  # of a thousand seeds as of one
        return tuple(missing)
    return tuple(seed for seed in missing if not failures.blocks(spec, seed))
