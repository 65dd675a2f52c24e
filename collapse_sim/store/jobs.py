"""Requests to the store, and the jobs that they need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from collapse_sim.core.events import JobFinished
from collapse_sim.store.blocks import block_name
from collapse_sim.store.spec import Spec

MAX_STACK = 1000  # seeds in one batched computation
MAX_NAME = 120  # characters of a block's name


@dataclass(frozen=True)
class Request:
    """A spec that some arms need for some seeds."""

    spec: Spec
    seeds: tuple[int, ...]
    arms: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """Missing seeds of a spec, to be made in one computation."""

    spec: Spec
    seeds: tuple[int, ...]  # () when the artefact is the same for all seeds
    arms: tuple[str, ...]

    @property
    def block(self) -> str:
        return block_name(self.seeds)


def where(job: Job, seeds: tuple[int, ...]) -> str:
    """ "replace / mix, generation 3, seed 1": a job in messages."""
    few = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds[:5]))}{' ...' * (len(seeds) > 5)}"
    return f"{' / '.join(job.arms)}, generation {job.spec.generation}" + (f", {few}" if seeds else "")


def finished(job: Job, reused: bool, wall_s: float) -> JobFinished:
    """The event that its artefact is available."""
    return JobFinished(job.spec.kind, job.spec.digest, job.spec.generation, job.arms, job.seeds, reused, wall_s)


def merge(requests: Iterable[Request]) -> list[Request]:
    """Equal digests become one request, with the union of the seeds and arms, in order of first appearance."""
    merged: dict[str, Request] = {}
    for request in requests:
        if request.spec.digest in merged:
            old = merged[request.spec.digest]
            seeds, arms = dict.fromkeys((*old.seeds, *request.seeds)), dict.fromkeys((*old.arms, *request.arms))
            request = Request(old.spec, tuple(seeds), tuple(arms))
        merged[request.spec.digest] = request
    return list(merged.values())


def split(request: Request, missing: tuple[int, ...], recorded: Iterable[tuple[int, ...]] = ()) -> Iterator[Job]:
    """Jobs for the missing seeds: one per seed, or many seeds at once for stacked specs.

    `recorded`: seeds that were one block before; where all of them are missing, they are one block again.
    """
    if not missing:
        return
    if not request.spec.seeded:
        yield Job(request.spec, (), request.arms)
        return
    for seeds in recorded if request.spec.stacked else ():
        if set(seeds) <= set(missing):
            yield Job(request.spec, seeds, request.arms)
            missing = tuple(seed for seed in missing if seed not in seeds)
    size = MAX_STACK if request.spec.stacked else 1
    for first in range(0, len(missing), size):
        for seeds in _nameable(missing[first : first + size]):
            yield Job(request.spec, seeds, request.arms)


def _nameable(seeds: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Halve the seeds until each part has a block name that is short enough for a file system."""
    if len(block_name(seeds)) <= MAX_NAME:
        yield seeds
        return
    middle = len(seeds) // 2
    yield from _nameable(seeds[:middle])
    yield from _nameable(seeds[middle:])
