"""Which function makes which kind of artefact."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from collapse_sim.core.errors import ENDS_RUN, CollapseSimError, MissingError, OutOfMemoryError, PluginError
from collapse_sim.core.events import Kind
from collapse_sim.core.machine import Device
from collapse_sim.core.memory_errors import first_line, out_of_memory
from collapse_sim.core.plugins import error_text, name_of, responsible_component
from collapse_sim.core.randomness import Draws
from collapse_sim.core.ranks import Ranks, portable
from collapse_sim.data.base import Columns, Data, FileData, Info, RowSource, SimulatedData
from collapse_sim.data.split import Part, parts_of
from collapse_sim.engine.curate import curate
from collapse_sim.engine.fit import fit, fit_together
from collapse_sim.engine.groups import is_shared_out
from collapse_sim.engine.importing import import_rows
from collapse_sim.engine.merging import merge
from collapse_sim.engine.model_import import import_model
from collapse_sim.engine.pieces import Pieces, in_pieces, layout
from collapse_sim.engine.programs import Programs
from collapse_sim.engine.sample import sample, to_numpy
from collapse_sim.engine.score import features, score
from collapse_sim.engine.stacked_sampling import sample_together
from collapse_sim.engine.verifying import fit_verifier
from collapse_sim.engine.work import JobContext
from collapse_sim.families.training import Train
from collapse_sim.plan.curation_specs import PoolSpec
from collapse_sim.plan.score_specs import ScoreSpec
from collapse_sim.plan.specs import DataSpec, ModelSpec, SampleSpec
from collapse_sim.store.jobs import Job, where
from collapse_sim.store.rowfile import RowWriter
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Build

PIECE_BYTES = 2**22  # size of a piece of rows, from which interrupted decoding continues
READ_ROWS = 64  # rows decoded between two checks for a requested stop: a photograph may take a tenth of a second


def decode(job: Job, folder: Path, context: JobContext) -> None:
    """Read or simulate the real, validation and held-out rows into a file each: real.safetensors and so on.

    Rows of files are never all in memory at once; resuming repeats at most PIECE_BYTES of them.
    """
    spec = job.spec
    assert isinstance(spec, DataSpec)
    data, info = spec.data, spec.info
    counts: dict[Part, int] = {"real": info.pool, "validation": info.validation, "held_out": info.held_out}
    if not spec.stacked:
        size = max(1, PIECE_BYTES // info.row_bytes)
        real, held_out = cast(FileData, data).open(context.data_dir)
        parts = parts_of(data, info, real, held_out, job.seeds[0] if job.seeds else 0)
        files = (
            Pieces(f"{part}.safetensors", counts[part], size, partial(_read, source, spec, context))
            for part, source in parts.items()
        )
        in_pieces(job, folder, context, *files)
        return
    for split, rows in counts.items():
        if not rows and split == "validation":
            continue
        draws = Draws(job.seeds, split, 0, dtype=torch.float64, stacked=True)
        columns = {name: to_numpy(column) for name, column in cast(SimulatedData, data).simulate(rows, draws).items()}
        _check_labels(info, columns, data)
        writer = RowWriter(folder / f"{split}.safetensors", len(job.seeds), layout(columns))
        writer.write(0, columns)
        writer.close()


def _read(source: RowSource, spec: DataSpec, context: JobContext, piece: int, first: int, last: int) -> Columns:
    """Read one piece, a few rows at a time."""
    info = spec.info
    parts: list[Columns] = []
    for start in range(first, last, READ_ROWS):
        context.stop.check()
        parts.append(source.read(start, min(start + READ_ROWS, last)))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in info.columns}
    if any(columns[name].shape != (last - first, *shape) for name, (shape, _) in info.columns.items()):
        raise MissingError("the data has changed since it was checked: run the command again")
    _check_labels(info, columns, spec.data)
    return columns


def _check_labels(info: Info, columns: Columns, data: Data) -> None:
    """Raise PluginError for labels that a network of `info.classes` classes has no place for."""
    labels = columns.get("label")
    if info.classes and labels is not None and labels.size and not 0 <= labels.min() <= labels.max() < info.classes:
        raise PluginError(
            f"{name_of(type(data))}: labels from {labels.min()} to {labels.max()}; allowed: 0 to {info.classes - 1}, "
            f"as its Info says (classes = {info.classes})"
        )


def samples(job: Job, folder: Path, context: JobContext) -> None:
    """A generation's rows: those of files, or drawn from its model."""
    imported = isinstance(job.spec, SampleSpec) and job.spec.imported is not None
    (import_rows if imported else sample)(job, folder, context)


def made_on(device: Device, programs: Programs, job: Job, world: int = 1) -> dict[str, Any]:
    """What a manifest records of the machine: device, precision of the network behind the artefact, threads, and how
    many of `world` ranks made it, if several did.

    Closed forms are float64, features fp32; reading rows has no precision of its own. "compiled" is there if steps of a
    fit, or calls of a sampler, were: {shapes of batches, or of pieces: where it changed, the first one to compiled}.
    """
    spec = job.spec
    entry: dict[str, Any] = {"device": device.describe(), "threads": torch.get_num_threads()}
    model = spec if isinstance(spec, ModelSpec) else getattr(spec, "model", None)
    if isinstance(model, ModelSpec) and getattr(spec, "imported", None) is None:
        entry["precision"] = describe_precision(device, model.train)
    elif spec.kind == "features":
        entry["precision"] = "fp32"
    if world > 1 and is_divided(job):
        entry["ranks"] = world
    if changes := programs.followed.get((spec.digest, job.seeds)):
        entry["compiled"] = dict(changes)
    return entry


def describe_precision(device: Device, train: Train | None) -> str:
    """For people: "bf16", "fp32+tf32"; "fp64" for closed forms (None)."""
    return device.with_precision(train.precision, train.tf32).describe_precision() if train else "fp64"


BUILDERS: dict[Kind, Callable[[Job, Path, JobContext], None]] = {
    "data": decode,
    "import": import_model,
    "fit": fit,
    "own samples": sample,
    "own fit": fit,
    "merge": merge,
    "samples": samples,
    "verifier": fit_verifier,
    "curation": curate,
    "features": features,
    "scores": score,
}


# Jobs of a group, which engine/groups.py forms.
TOGETHER: dict[Kind, Callable[[Sequence[Job], Sequence[Path], JobContext], Mapping[int, Exception]]] = {
    "fit": fit_together,
    "own fit": fit_together,
    "samples": sample_together,
    "own samples": sample_together,
}


# Made by all ranks, a part by each. Everything else is made by rank 0 while the others wait.
DIVIDED: frozenset[Kind] = frozenset({"data", "fit", "own samples", "own fit", "samples", "features"})


def is_divided(job: Job) -> bool:
    """Whether all ranks make an artefact: not what is computed for all seeds at once, such as closed forms."""
    return job.spec.kind in DIVIDED and not job.spec.stacked


def builder(context: JobContext) -> Build:
    """The build function that the store calls, with its surroundings bound. Fits and rows may be made in groups."""

    def build(jobs: Sequence[Job], folders: Sequence[Path]) -> Mapping[int, Exception]:
        if signal := context.ranks.signal():
            context.stop.signal_number = signal
            context.stop.check()
        if len(jobs) > 1 and all(map(is_shared_out, jobs)):
            task = {"shared out": [_task(job) for job in jobs]}
            return context.ranks.together(task, lambda: share_out(jobs, folders, context))
        if len(jobs) > 1:
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    return TOGETHER[jobs[0].spec.kind](jobs, folders, context)
            except SystemExit as error:  # of a plug-in: one by one, its own fit says so
                raise RuntimeError(f"SystemExit({error.code!r})") from error
        job, action = jobs[0], partial(make, jobs[0], folders[0], context)
        if is_divided(job):
            context.ranks.together(_task(job), action)
        else:
            action()
        return {}

    return build


def _task(job: Job) -> dict[str, Any]:
    """A job as ranks know it."""
    return {"digest": job.spec.digest, "seeds": list(job.seeds), "arms": list(job.arms)}


def share_out(jobs: Sequence[Job], folders: Sequence[Path], context: JobContext) -> dict[int, Exception]:
    """Make jobs that are one process's work side by side, each on one rank; rank 0 writes the files of all. Returns
    {position: error} of those that failed, on rank 0."""
    alone = replace(context, ranks=Ranks())

    def made(job: Job) -> tuple[dict[str, bytes], Exception | None]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            try:
                make(job, folder, alone)
            except ENDS_RUN:
                raise
            except Exception as error:
                return {}, portable((None, error))[1]
            return {path.name: path.read_bytes() for path in folder.iterdir()}, None

    errors: dict[int, Exception] = {}
    for number, (files, error) in enumerate(context.ranks.each(jobs, made, long=True)):
        if error is not None:
            errors[number] = error
        for name, content in files.items():
            (folders[number] / name).write_bytes(content)
    return errors


def make(job: Job, folder: Path, context: JobContext) -> None:
    """Make an artefact in a folder; rank 0 alone uses the folder. Exceptions name the place and who is responsible."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the command's data, even if a plug-in prints
            BUILDERS[job.spec.kind](job, folder, context)
    except CollapseSimError:
        raise
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise OutOfMemoryError(
                f"{where(job, ())}: out of memory while making {job.spec.kind} on {context.device.device}: "
                "finished work is kept; lower train.batch_size or sampling.shard, or split batches with "
                f"train.accumulate. ({first_line(error)})"
            ) from error
        own = responsible_component(error, _components(job.spec))
        if own is not None:
            raise PluginError(f"{where(job, job.seeds)}: {name_of(type(own))} raised {error_text(error)}") from error
        raise


def _components(spec: Spec) -> list[object]:
    """The components involved in making an artefact."""
    named = [getattr(spec, name, None) for name in ("family", "metric", "feature_map", "data", "curation", "verifier")]
    inner = [getattr(named[1], "feature_map", None)]
    if isinstance(spec, ScoreSpec):
        inner += [spec.model.family, spec.data.data]
    if isinstance(spec, SampleSpec):
        inner.append(spec.guidance)
    if isinstance(spec, SampleSpec | PoolSpec):
        inner.append(spec.model.family)
    return [component for component in (*named, *inner) if component is not None]
