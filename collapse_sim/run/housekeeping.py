"""What the generation loop does for `keep_weights` and `keep_samples`: what it asks for, and what it removes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from collapse_sim.core.events import JobFinished, Note
from collapse_sim.engine.work import JobContext
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.keeping import Pruning, read_by, spare_after
from collapse_sim.store import journal
from collapse_sim.store.jobs import Request
from collapse_sim.store.pruning import Pruned, prune
from collapse_sim.store.run_directory import JOURNAL_FILE
from collapse_sim.store.spec import Spec


class Housekeeper:
    """Removes what a run can do without, and asks for what was removed only if something missing is made from it."""

    def __init__(self, experiment: Experiment, folder: Path, context: JobContext) -> None:
        self._experiment, self._folder, self._context = experiment, folder, context
        self._spare = spare_after(experiment)
        self._arms = [plan.name for plan in experiment.arm_plans]
        ends = journal.diverged(journal.read(folder / JOURNAL_FILE))
        missing = partial(context.store.missing, emit=context.emit)  # which reports what is damaged
        self._pruning = Pruning(experiment, context.store.root, ends, missing)
        self._to_make: dict[str, set[int]] | None = None  # None: something was made since it was found out
        self._told = self._told_problem = False

    def made(self, count: int) -> None:
        """Artefacts were made: what was needed for them may be needed no longer."""
        if count:
            self._to_make = None

    def wanted(self, requests: Iterable[Request]) -> list[Request]:
        """The requests without seeds whose artefacts were removed and are not needed, and with those that are in one
        block with a seed that is needed."""
        return [kept for request in requests if (kept := self._wanted(request)) is not None]

    def _wanted(self, request: Request) -> Request | None:
        spec = request.spec
        gone = self._pruning.gone(spec)
        if not gone:
            return request
        needed = self._needed(spec) & gone
        if needed:  # another process may have made what it is needed for
            self._to_make = None
            needed = self._needed(spec) & gone
        if needed and not self._told:
            self._told = True
            self._context.emit(
                Note("something that was pruned is needed again: it is made again, and compared with its hash", "info")
            )
        if not spec.seeded:
            if not needed:
                self._skipped(request, ())
            return request if needed else None
        if skipped := tuple(seed for seed in request.seeds if seed in gone - needed):
            self._skipped(request, skipped)
        seeds = [seed for seed in request.seeds if seed not in gone]
        seeds += sorted(needed)
        return Request(spec, tuple(seeds), request.arms) if seeds else None

    def _needed(self, spec: Spec) -> set[int]:
        if self._to_make is None:
            self._to_make = self._pruning.to_make()
        return self._to_make.get(spec.digest, set())

    def _skipped(self, request: Request, seeds: tuple[int, ...]) -> None:
        """Show it as finished, which it was."""
        spec = request.spec
        self._context.emit(JobFinished(spec.kind, spec.digest, spec.generation, request.arms, seeds, True, 0.0))

    def tidy(self, k: int) -> Pruned:
        """Remove what is no longer needed once generation k of all arms is complete.

        After a failure that is no result, nothing is removed: the next run tries again, and needs it. Nor is anything
        that a mirror of the store should have, and has not.
        """
        store, specs = self._context.store, self._spare.get(k, [])
        if not specs or store.failures.others():
            return Pruned()
        if not store.mirror.settled():
            self._tell("the mirror does not have everything; a later run with it, or without one, prunes")
            return Pruned()
        read = {
            (spec.digest, seed)  # fits that diverged read it again before they say so
            for failure in store.failures.diverged()
            for spec in read_by(failure.job.spec)
            for seed in ((failure.seeds or (-1,)) if spec.seeded else (-1,))
        }
        seeds = self._experiment.recipe.seeds
        spare = {
            spec.digest: {seed for seed in spec.seeds(seeds) or (-1,) if (spec.digest, seed) not in read}
            for spec in specs
        }
        pruned = prune(store, self._folder, spare, self._arms)
        if pruned.problem:
            self._tell(pruned.problem)
        return pruned

    def _tell(self, problem: str) -> None:
        if not self._told_problem:
            self._told_problem = True
            self._context.emit(Note(f"nothing is pruned: {problem}"))
