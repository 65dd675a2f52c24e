"""What is computed together: fits of one architecture, schedule and number of updates, and rows of such models. And
which jobs ranks share out among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.events import Kind
from collapse_sim.core.hashing import digest_of
from collapse_sim.core.plugins import described
from collapse_sim.engine.checkpoint import newest_step
from collapse_sim.engine.pieces import finished_pieces
from collapse_sim.engine.row_weights import weighs_rows
from collapse_sim.engine.work import JobContext
from collapse_sim.families.base import ClosedForm
from collapse_sim.families.hooks import Stacks, StacksSampling
from collapse_sim.families.training import FitLength
from collapse_sim.plan.specs import FitSpec, SampleSpec
from collapse_sim.remedies.base import TokenWeighting
from collapse_sim.store.jobs import Job
from collapse_sim.store.rowfile import SAMPLES_FILE

SHARED_OUT: frozenset[Kind] = frozenset({"verifier", "curation", "scores"})
COMPONENTS = ("metric", "curation", "verifier")  # of their specs


def group_size(ensemble: str) -> int:
    """The most fits that are computed together, from "auto", "off" or a number. Raises RecipeError for anything else.

    auto: 1. On a CPU only very small networks gain (docs/architecture.md), and the last digits of a chain's figures
    would depend on which seeds and arms run together; on CUDA groups have not been measured yet.
    """
    if ensemble in ("auto", "off"):
        return 1
    if ensemble.isascii() and ensemble.isdigit() and int(ensemble) >= 1:
        return int(ensemble)
    raise RecipeError(f"--ensemble {ensemble}: allowed: auto, off, or the most fits that are computed together, from 1")


def grouping(jobs: Sequence[Job], context: JobContext) -> list[Sequence[Job]]:
    """The jobs in groups of at most `context.group_size`, in their order; with several ranks those of SHARED_OUT, one
    for each rank."""
    if context.ranks.world > 1:
        return _for_ranks(jobs, context.ranks.world)
    groups: dict[str, list[list[Job]]] = {}
    ordered: list[list[Job]] = []
    for job in jobs:
        key = group_key(job, context)
        if key is None:
            ordered.append([job])
            continue
        open_groups = groups.setdefault(key, [])
        if not open_groups or len(open_groups[-1]) >= context.group_size:
            open_groups.append([])
            ordered.append(open_groups[-1])
        open_groups[-1].append(job)
    return list(ordered)


def _for_ranks(jobs: Sequence[Job], world: int) -> list[Sequence[Job]]:
    """Jobs that take about as long, those of one metric or curation, are made at the same time."""
    ordered: list[Sequence[Job]] = [[job] for job in jobs if not is_shared_out(job)]
    by_component: dict[Any, list[Job]] = {}
    for job in filter(is_shared_out, jobs):
        component = next((getattr(job.spec, name) for name in COMPONENTS if hasattr(job.spec, name)), None)
        by_component.setdefault(repr(component), []).append(job)
    shared = [job for alike in by_component.values() for job in alike]
    return ordered + [shared[first : first + world] for first in range(0, len(shared), world)]


def is_shared_out(job: Job) -> bool:
    """Whether a job is made by one rank, while others make others: not what is computed for all seeds at once."""
    return job.spec.kind in SHARED_OUT and not job.spec.stacked


def group_key(job: Job, context: JobContext) -> str | None:
    """Equal for fits, or for rows, that can be computed together; None for a job that is computed alone.

    Alone are imported models, closed forms (all seeds of an arm are one computation already), families that do not
    stack, fp16 (whose skipped updates differ), micro-batches, fits that end early, and those whose teacher has other
    sizes.
    """
    spec = job.spec
    if isinstance(spec, SampleSpec):
        return _sampling_key(job, spec, context)
    if not isinstance(spec, FitSpec) or spec.given or spec.train is None or isinstance(spec.family, ClosedForm):
        return None
    train = spec.train
    if context.group_size < 2 or not (isinstance(spec.family, Stacks) and spec.family.stacks):
        return None
    if train.precision == "fp16" or train.accumulate > 1 or train.patience is not None or spec.teaching is not None:
        return None
    unfinished = [newest_step(folder) for folder in context.store.leftovers(job)]
    length = FitLength.of(train, spec.plan.rows)
    settings = train.describe()
    for name in ("epochs", "steps", "evaluate"):
        settings.pop(name, None)
    content = {
        "family": spec.description["family"],  # without the settings of its sampler
        "train": settings,
        "steps": length.steps,
        "taught": [spec.teacher is not None, spec.layers, spec.criterion if spec.layers else None],
        "weighting": [
            weighs_rows(context.store, spec, job.seeds[0] if job.seeds else 0),
            described(spec.weighting) if isinstance(spec.weighting, TokenWeighting) else None,
        ],
        "at step": max(unfinished, default=0),  # so that nobody waits for one that begins
        "columns": {name: [list(shape), dtype] for name, (shape, dtype) in spec.data.info.columns.items()},
    }
    return digest_of(content)


def _sampling_key(job: Job, spec: SampleSpec, context: JobContext) -> str | None:
    """Equal for rows that can be drawn together: of models of one architecture, in equal shards. Alone are those of
    closed forms, of files, of guided models, and of families that do not stack their sampling; on a CPU, all."""
    family, model = spec.model.family, spec.model
    if context.group_size < 2 or not context.device.bound_by_launches:
        return None
    if spec.stacked or spec.imported is not None or spec.guidance is not None:
        return None
    if model.train is None or not (isinstance(family, StacksSampling) and family.stacks_sampling):
        return None
    unfinished = [finished_pieces(folder, SAMPLES_FILE) for folder in context.store.leftovers(job)]
    content = {
        "kind": spec.kind,
        "generation": spec.generation,
        "family": described(family),
        "precision": [model.train.precision, model.train.tf32],
        "rows": [spec.rows, spec.shard, spec.conditions, spec.draw],
        "finished": max(unfinished, default=0),
        "columns": {name: [list(shape), dtype] for name, (shape, dtype) in model.data.info.columns.items()},
    }
    return digest_of(content)


def rows_key(job: Job) -> tuple[Any, ...]:
    """Equal for fits that read the same rows in the same order with the same noise and the same weights."""
    spec = job.spec
    assert isinstance(spec, FitSpec)
    chosen = spec.curation.digest if spec.curation else None
    rows = (tuple(source.digest for source in spec.sources), repr(spec.plan), chosen, spec.data.info.rows, job.seeds)
    return (spec.kind, spec.generation, *rows, repr(spec.weighting))
