"""The only sampling driver: shard by shard, each with a seed of its own, continued where a kill left off."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from collapse_sim.data.base import conditions_of
from collapse_sim.engine import load
from collapse_sim.engine.work import Work
from collapse_sim.families.base import Conditions
from collapse_sim.randomness import Draws
from collapse_sim.specs import SampleSpec
from collapse_sim.store.files import explained, write_atomic
from collapse_sim.store.jobs import Job
from collapse_sim.store.rowfile import RowFile, RowWriter
from collapse_sim.store.store import boundary

ROWS_FILE = "samples.safetensors"


def sample(job: Job, folder: Path, work: Work) -> None:
    """Draw a generation's rows into samples.safetensors. Resuming repeats at most one shard."""
    spec = job.spec
    assert isinstance(spec, SampleSpec)
    train = spec.model.train
    machine = work.machine.at(train.precision, train.tf32) if train else work.machine
    family = spec.model.family
    model = load.model(work.store, spec.model, job.seeds, machine)
    names = conditions_of(spec.model.data.data)
    given = load.base_conditions(work.store, spec.model.data, names, job.seeds, spec.rows)
    given = {name: machine.put(column) for name, column in given.items()}
    seeds = job.seeds or (0,)

    def draw(shard: int, first: int, last: int) -> dict[str, np.ndarray]:
        axis = 1 if spec.stacked else 0
        conditions = Conditions(
            last - first, {n: column.narrow(axis, first, last - first) for n, column in given.items()}
        )
        dtype = torch.float64 if spec.stacked else torch.float32
        draws = Draws(seeds, "sample", spec.generation, shard, device=machine.device, dtype=dtype, stacked=spec.stacked)
        with torch.no_grad(), machine.autocast():
            return {name: to_numpy(column) for name, column in family.sample(model, conditions, draws).items()}

    if spec.stacked:
        columns = draw(0, 0, spec.rows)
        writer = RowWriter(folder / ROWS_FILE, len(seeds), layout(columns))
        writer.write(0, columns)
        writer.close()
        return
    _draw_shards(job, spec, folder, work, draw)


def _draw_shards(job: Job, spec: SampleSpec, folder: Path, work: Work, draw: object) -> None:
    assert callable(draw)
    partial = work.store.partial(job)
    with explained(partial):
        partial.mkdir(parents=True, exist_ok=True)
    progress_file, rows_file = partial / "shards.json", partial / ROWS_FILE
    bounds = [(first, min(first + spec.shard, spec.rows)) for first in range(0, spec.rows, spec.shard)]
    hashes = _finished_shards(progress_file, rows_file, bounds)
    writer: RowWriter | None = None
    work.restart_clock()
    rows_seen = 0
    for shard in range(len(hashes), len(bounds)):
        first, last = bounds[shard]
        columns = draw(shard, first, last)
        writer = writer or RowWriter(rows_file, spec.rows, layout(columns))
        writer.write(first, columns)
        boundary("shard")
        hashes.append(shard_hash(columns))
        rows_seen += last - first
        if shard + 1 < len(bounds):
            write_atomic(progress_file, json.dumps(hashes), durable=False)
            boundary("shard recorded")
            work.stop.check()
        if work.due():
            work.report(job, last, spec.rows, "rows", rows_seen)
            rows_seen = 0
    if writer:
        writer.close()
    rows_file.replace(folder / ROWS_FILE)


def _finished_shards(progress_file: Path, rows_file: Path, bounds: list[tuple[int, int]]) -> list[str]:
    """Hashes of the shards that are already in the file, up to the first one that isn't what it should be."""
    try:
        recorded = json.loads(progress_file.read_text(encoding="utf-8"))
        columns = RowFile(rows_file).columns
    except (OSError, ValueError, KeyError):
        return []
    good: list[str] = []
    for text, (first, last) in zip(recorded, bounds, strict=False):
        if shard_hash({name: column[first:last] for name, column in columns.items()}) != text:
            break
        good.append(text)
    return good


def shard_hash(columns: Mapping[str, np.ndarray]) -> str:
    """sha256 over the columns' bytes, by name."""
    total = hashlib.sha256()
    for name in sorted(columns):
        total.update(np.ascontiguousarray(columns[name]).data)
    return total.hexdigest()


def layout(columns: Mapping[str, np.ndarray]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape of a row and dtype, by column."""
    return {name: (column.shape[1:], str(column.dtype)) for name, column in columns.items()}


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A contiguous array on the CPU."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
