"""Ranks other than 0: they make what rank 0 makes, with it, and read what it has committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch

from collapse_sim.core.errors import RecipeError, StoreError
from collapse_sim.core.plugins import name_of
from collapse_sim.core.ranks import Group, Ranks
from collapse_sim.engine.build import make, share_out
from collapse_sim.engine.work import JobContext
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.specs import FitSpec
from collapse_sim.remedies.base import TokenWeighting
from collapse_sim.store.blocks import Block
from collapse_sim.store.jobs import Job
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store

PATIENCE_S = 60.0  # network file systems show a new folder to other machines after some seconds


class PatientStore(Store):
    """The store of a process that reads what one on another machine has committed just before."""

    def __init__(
        self, root: Path, check_stop: Callable[[], None], patience_s: float = PATIENCE_S, *, writable: bool = True
    ) -> None:
        super().__init__(root, check_stop, writable=writable)
        self._patience_s = patience_s

    def block(self, spec: Spec, seed: int) -> Block:
        """The artefact, once this machine sees it. Raises StoreError when it does not."""
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return super().block(spec, seed)
            except StoreError:
                if time.monotonic() > deadline:
                    raise
            self._pause()
            self._damaged.clear()  # a folder may be seen before its files

    def _pause(self) -> None:
        time.sleep(0.2)


class SharedStore(PatientStore):
    """That of a rank other than 0, which writes nothing."""

    def __init__(self, root: Path, check_stop: Callable[[], None], patience_s: float = PATIENCE_S) -> None:
        super().__init__(root, check_stop, patience_s, writable=False)


def follow(experiment: Experiment, context: JobContext, group: Group) -> NoReturn:
    """Take part in the jobs of rank 0 until it ends. Raises what Group.follow does."""
    specs = {spec.digest: spec for spec in experiment.specs()}
    group.follow(partial(_take_part, specs, context))


def _take_part(specs: Mapping[str, Spec], context: JobContext, task: Mapping[str, Any]) -> None:
    def job(of: Mapping[str, Any]) -> Job:
        return Job(specs[of["digest"]], tuple(of["seeds"]), tuple(of["arms"]))

    if "shared out" in task:
        share_out([job(of) for of in task["shared out"]], (), context)
    else:
        make(job(task), Path(), context)


def check_ranks(experiment: Experiment, ranks: Ranks, together: int, *, compiled: bool) -> None:
    """Raise RecipeError for what several ranks cannot do. `together`: the most fits that are computed together;
    `compiled`: whether steps have to be compiled."""
    problems = list(_problems(experiment, ranks.world, together, compiled)) if ranks.world > 1 else []
    if problems:
        raise RecipeError(*problems)


def _problems(experiment: Experiment, world: int, together: int, compiled: bool) -> Iterator[str]:
    recipe = experiment.recipe
    if together > 1:
        yield (
            f"--ensemble {together}: fits that are computed together are one process's; with {world} ranks each fit is "
            "computed by all of them: use --ensemble off, or one process"
        )
    if compiled:
        yield f"--compile on: steps are not compiled with {world} ranks; use --compile off, or one process"
    fits = experiment.fits()
    for size in sorted({fit.train.batch_size for fit in fits if fit.train and fit.train.batch_size < world}):
        yield (
            f"{recipe.where('train.batch_size')}: train.batch_size: {size} rows cannot be divided among {world} ranks; "
            "use larger batches, or fewer ranks"
        )
    yield from _undivided(experiment, fits)
    for name in _renormalised(experiment, fits):
        path = f"arms.{name}.weighting"
        yield (
            f"{recipe.where(path)}: {path}: renormalise divides by the tokens that count in a whole batch, which "
            f"{world} ranks do not know; use one process, or renormalise: false"
        )


def _undivided(experiment: Experiment, fits: Iterable[FitSpec]) -> Iterator[str]:
    """Parameters that `train.shard` cannot divide."""
    families = {repr(fit.family): fit for fit in fits if fit.train and fit.train.shard}
    for fit in families.values():
        with torch.random.fork_rng(devices=[]):
            model = fit.family.build(fit.data.info)
        names = [name for name, p in model.named_parameters() if p.dim() == 0 or not p.is_contiguous()]
        if names:
            yield (
                f"{experiment.recipe.where('train.shard')}: train.shard: {name_of(type(fit.family))} has parameters "
                f"that cannot be divided along a first axis ({', '.join(names[:3])}); remove it, or change the network"
            )


def _renormalised(experiment: Experiment, fits: Iterable[FitSpec]) -> Iterator[str]:
    """Arms with fits whose loss is no sum over rows."""
    digests = {fit.digest for fit in fits if isinstance(fit.weighting, TokenWeighting) and fit.weighting.renormalise}
    for arm in experiment.arm_plans:
        if any(fit.digest in digests for plan in arm.generations for fit in plan.fits):
            yield arm.name
