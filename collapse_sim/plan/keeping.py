"""`keep_weights` and `keep_samples`: which artefacts a run may do without, from when on, and what it then needs again.

Nothing here is in a key or changes a score. What is removed has a record in the store (store/records.py), from which
`to_make` knows that it was there: it is asked for only if something that is missing is made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from collapse_sim.plan.curation_specs import CurationSpec
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.score_specs import FeatureSpec
from collapse_sim.plan.settings import Keep, Recipe
from collapse_sim.plan.sizes import bytes_of
from collapse_sim.plan.specs import FitSpec, ModelSpec, SampleSpec
from collapse_sim.store.blocks import present, recorded_blocks
from collapse_sim.store.spec import Spec

Ends = Mapping[str, Mapping[int, int]]  # {arm: {seed: the generation at which its chain diverged}}


def keep_of(recipe: Recipe, spec: Spec) -> Keep:
    """The setting that an artefact falls under; "all" for what is always kept: data, scores, verifiers, networks of
    metrics, and what is from outside, which a run cannot make again.

    Weights are those of fits and of combined models. With samples go further draws, outputs, what a curation keeps of
    them and their features.
    """
    if isinstance(spec, ModelSpec):
        outside = isinstance(spec, FitSpec) and spec.given is not None
        return "all" if outside or spec.generation < 0 else recipe.keep_weights
    rows = spec.rows if isinstance(spec, FeatureSpec) else spec
    if isinstance(rows, CurationSpec) or (isinstance(rows, SampleSpec) and rows.imported is None):
        return recipe.keep_samples
    return "all"


def read_by(spec: Spec) -> Iterator[Spec]:
    """Everything that is read when an artefact is made: its parents, and the rows that a curation is an index into."""
    for parent in spec.parents:
        yield parent
        if isinstance(parent, CurationSpec):
            yield from parent.offer.sources if parent.offer else parent.draws


def spare_after(experiment: Experiment) -> dict[int, list[Spec]]:
    """{k: what is no longer needed once generation k is complete, and not kept}, each artefact once.

    Weights and rows are needed as long as something of a later generation is made from them. Under "last" the newest
    complete generation stays, too.
    """
    recipe, last_read, of = experiment.recipe, dict[str, int](), dict[str, Spec]()
    for arm in experiment.arm_plans:
        for k, plan in enumerate(arm.generations):
            for spec in plan.specs():
                of[spec.digest] = spec
                last_read[spec.digest] = max(k, last_read.get(spec.digest, 0))
                for read in read_by(spec):
                    last_read[read.digest] = max(k, last_read.get(read.digest, 0))
    spare: dict[int, list[Spec]] = {}
    for digest, spec in of.items():
        keep = keep_of(recipe, spec)
        if keep == "last" and spec.generation < recipe.generations:
            spare.setdefault(max(last_read[digest], spec.generation + 1), []).append(spec)
        elif keep == "none-but-generation-0" and spec.generation > 0:
            spare.setdefault(last_read[digest], []).append(spec)
    return spare


def held_to_the_end(experiment: Experiment) -> list[str]:
    """The arms whose last generation reads the samples of generations before the one before it, although these are not
    to be kept: under `accumulate` nothing is removed before the end."""
    spare, last = spare_after(experiment), experiment.recipe.generations
    late = {spec.digest for spec in spare.get(last, ()) if isinstance(spec, SampleSpec) and spec.generation < last - 1}
    return [
        arm.name
        for arm in experiment.arm_plans
        if any(read.digest in late for spec in arm.generations[last].specs() for read in read_by(spec))
    ]


def most_bytes(experiment: Experiment, is_missing: Callable[[Spec], int], *, late: bool = False) -> int:
    """The most bytes that the missing artefacts take at any time of the run: `sizes.bytes_to_come` where nothing is
    removed. `late`: what generation k makes superfluous is removed when k + 1 is made."""
    spare, size, here = spare_after(experiment), bytes_of(experiment), dict[str, int]()
    for spec in experiment.shared:
        here[spec.digest] = is_missing(spec) * size(spec)
    most = sum(here.values())
    for k in range(experiment.recipe.generations + 1):
        for arm in experiment.arm_plans:
            for spec in arm.generations[k].specs():
                if spec.digest not in here:
                    here[spec.digest] = is_missing(spec) * size(spec)
        most = max(most, sum(here.values()))
        for spec in spare.get(k - late, ()):
            here[spec.digest] = 0
    return most


def to_come(experiment: Experiment, store: Path, ends: Ends | None = None) -> Callable[[Spec], int]:
    """How many of a spec's artefacts (one per seed) a run is going to make, judged by name alone; the store need not
    exist."""
    seeds = seeds_to_come(experiment, store, ends)
    return lambda spec: len(seeds(spec))


def seeds_to_come(experiment: Experiment, store: Path, ends: Ends | None = None) -> Callable[[Spec], Collection[int]]:
    """The same as the seeds themselves (-1: the same for all)."""
    if not (store / "pruned").is_dir():
        return lambda spec: _by_name(store, spec, experiment.recipe.seeds if spec.seeded else (-1,))
    make = Pruning(experiment, store, ends or {}).to_make()
    return lambda spec: make.get(spec.digest, ())


def seeds_to_make(
    experiment: Experiment, store: Path, ends: Ends | None, fetchable: Mapping[str, Collection[int]] | None
) -> Callable[[Spec], Collection[int]]:
    """The same without what is fetched: `fetchable`, {digest: seeds}, is in a mirror of the store."""
    coming, there = seeds_to_come(experiment, store, ends), fetchable or {}
    return lambda spec: {*coming(spec)}.difference(there.get(spec.digest, ()))


def _by_name(store: Path, spec: Spec, seeds: Iterable[int]) -> set[int]:
    """The seeds that a store lacks."""
    return set(seeds) - present(store, spec.digest)


@dataclass(frozen=True)
class Pruning:
    """An experiment, and a store with records of what was removed from it."""

    experiment: Experiment
    root: Path
    ends: Ends
    missing: Callable[[Spec, Iterable[int]], Collection[int]] | None = None  # None: judged by name alone

    def gone(self, spec: Spec) -> set[int]:
        """The seeds (-1: the same for all) of an artefact that is recorded and absent."""
        recorded = {seed for seeds in recorded_blocks(self.root, spec.digest) for seed in seeds}
        return recorded - present(self.root, spec.digest) if recorded else set()

    def to_make(self, only: Mapping[str, Collection[int]] | None = None) -> dict[str, set[int]]:
        """{digest: seeds} of everything that is to be made: what is missing and was never there, or is to be kept, and
        what that is made from, as far as it is missing. `only`: nothing but this, {digest: seeds}, and what it needs.

        A removed block of several seeds is made as a whole, since only that can be checked. Nothing is made for what
        follows the end of a chain that diverged.
        """
        alive = self._alive()
        needed = {digest: set(seeds) for digest, seeds in (only or {}).items()}
        make: dict[str, set[int]] = {}
        for spec in reversed(list(self.experiment.specs())):
            asked = needed.get(spec.digest, set())
            seeds = alive.get(spec.digest, set(self.experiment.recipe.seeds))
            seeds = seeds if spec.seeded else {-1} if seeds else set()
            absent = self._absent(spec, seeds | asked)
            own = absent & asked
            if only is None:
                own |= absent if keep_of(self.experiment.recipe, spec) == "all" else absent - self.gone(spec)
            blocks = recorded_blocks(self.root, spec.digest) if own else ()
            for block in blocks:
                if not own.isdisjoint(block):
                    own |= self._absent(spec, set(block))
            if own:
                make[spec.digest] = own
                for read in read_by(spec):
                    needed.setdefault(read.digest, set()).update(own if read.seeded else {-1})
        return make

    def _absent(self, spec: Spec, seeds: set[int]) -> set[int]:
        if self.missing is None:
            return _by_name(self.root, spec, seeds)
        return set(self.missing(spec, sorted(seeds))) if seeds else set()

    def _alive(self) -> dict[str, set[int]]:
        """{digest: seeds} for which some arm makes it; specs that all arms share have no entry."""
        alive: dict[str, set[int]] = {}
        for arm in self.experiment.arm_plans:
            ends = self.ends.get(arm.name, {})
            for k, plan in enumerate(arm.generations):
                specs = {spec.digest: spec for spec in plan.specs()}
                going_on = {seed for seed in self.experiment.recipe.seeds if k < ends.get(seed, k + 1)}
                for digest, spec in specs.items():
                    own = [read for read in read_by(spec) if read.digest in specs]
                    tried = {seed for seed, at in ends.items() if at == k and self._were_made(own, seed)}
                    alive.setdefault(digest, set()).update(going_on, tried)
        return alive

    def _were_made(self, specs: Iterable[Spec], seed: int) -> bool:
        keys = ((spec, seed if spec.seeded else -1) for spec in specs)
        return all(key in self.gone(spec) or not self._absent(spec, {key}) for spec, key in keys)
