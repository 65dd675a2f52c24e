"""The jobs that an experiment still lacks, and which of them wait for which: what other processes are asked to make."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.keeping import read_by
from collapse_sim.store.jobs import Job, Request, split
from collapse_sim.store.spec import Spec

Key = tuple[str, int]  # (digest, seed), -1: the same for all seeds
Grouping = Callable[[Sequence[Job]], Iterable[Sequence[Job]]]


@dataclass(frozen=True)
class JobNode:
    """Jobs that are made in one call, and the numbers of the nodes that make what they read."""

    jobs: tuple[Job, ...]
    after: tuple[int, ...]

    @property
    def generation(self) -> int:
        return max(job.spec.generation for job in self.jobs)

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple((job.spec.digest, seed) for job in self.jobs for seed in job.seeds or (-1,))


class JobGraph:
    """Nodes by number, parents first. `add` numbers further ones."""

    def __init__(self, experiment: Experiment) -> None:
        self.nodes: list[JobNode] = []
        self.maker: dict[Key, int] = {}  # the node that makes an artefact
        self._experiment = experiment
        self._seeds, self._all = experiment.recipe.seeds, tuple(plan.name for plan in experiment.arm_plans)
        self._arms = experiment.arms_by_digest()

    def plan(
        self,
        missing: Mapping[str, Collection[int]],
        recorded: Callable[[str], Iterable[tuple[int, ...]]],
        group: Grouping,
    ) -> None:
        """Add a node for each group of jobs that make what is `missing`, {digest: seeds}; `recorded`: seeds of a digest
        that were one block before."""
        planned: set[str] = set()
        for stage in _stages(self._experiment):
            jobs: list[Job] = []
            for spec in stage:
                absent = () if spec.digest in planned else missing.get(spec.digest, ())
                planned.add(spec.digest)
                seeds = tuple(seed for seed in (self._seeds if spec.seeded else (-1,)) if seed in absent)
                seeds += tuple(sorted(set(absent) - set(seeds)))  # of a block with other seeds
                request = Request(spec, seeds, tuple(self._arms.get(spec.digest, self._all)))
                jobs += split(request, seeds, recorded(spec.digest) if seeds else ())
            self.add(jobs, group)

    def add(self, jobs: Sequence[Job], group: Grouping) -> None:
        """Add jobs that do not read each other's artefacts."""
        for members in group(jobs):
            after = dict.fromkeys(number for job in members for number in self._read(job))
            node = JobNode(tuple(members), tuple(after))
            self.maker |= dict.fromkeys(node.keys, len(self.nodes))
            self.nodes.append(node)

    def _read(self, job: Job) -> Iterable[int]:
        for spec in read_by(job.spec):
            seeds = (-1,) if not spec.seeded else job.seeds or self._seeds
            yield from (self.maker[key] for seed in seeds if (key := (spec.digest, seed)) in self.maker)


def _stages(experiment: Experiment) -> Iterator[list[Spec]]:
    """All specs in the order of the generation loop: those of a stage do not read each other."""
    yield from ([spec] for spec in experiment.shared)
    for k in range(experiment.recipe.generations + 1):
        plans = [arm.generations[k] for arm in experiment.arm_plans]
        yield [spec for plan in plans for spec in plan.fits]
        for stage in range(max(len(plan.between) for plan in plans)):
            yield [spec for plan in plans for spec in plan.between[stage : stage + 1]]
        yield [spec for plan in plans for spec in plan.generated()]
        yield [spec for plan in plans for spec in plan.verifiers()]
        yield [spec for plan in plans for spec in plan.curations()]
        yield [spec for plan in plans for spec in plan.features]
        yield [spec for plan in plans for spec in plan.scores.values()]
