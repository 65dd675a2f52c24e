"""Which function makes which kind of artefact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch

from collapse_sim.data.base import Columns, FileData, SimulatedData
from collapse_sim.engine.fit import fit
from collapse_sim.engine.pieces import layout
from collapse_sim.engine.sample import sample, to_numpy
from collapse_sim.engine.score import features, score
from collapse_sim.engine.work import Work
from collapse_sim.errors import CollapseSimError
from collapse_sim.events import Kind
from collapse_sim.randomness import Draws
from collapse_sim.specs import DataSpec
from collapse_sim.store.jobs import Job
from collapse_sim.store.rowfile import RowWriter
from collapse_sim.store.store import Build


def decode(job: Job, folder: Path, work: Work) -> None:
    """Read or simulate the real and held-out rows into real.safetensors and held_out.safetensors."""
    spec = job.spec
    assert isinstance(spec, DataSpec)
    data, info = spec.data, spec.info
    if data.seeded:
        splits: dict[str, Columns] = {}
        for split, rows in (("real", info.pool), ("held_out", info.held_out)):
            draws = Draws(job.seeds, split, 0, dtype=torch.float64, stacked=True)
            simulated = cast(SimulatedData, data).simulate(rows, draws)
            splits[split] = {name: to_numpy(column) for name, column in simulated.items()}
    else:
        real, held_out = cast(FileData, data).load(work.data_dir)
        splits = {"real": real, "held_out": held_out}
    for split, columns in splits.items():
        rows = len(next(iter(columns.values())))
        writer = RowWriter(folder / f"{split}.safetensors", rows, layout(columns))
        writer.write(0, columns)
        writer.close()


BUILDERS: dict[Kind, Callable[[Job, Path, Work], None]] = {
    "data": decode,
    "fit": fit,
    "samples": sample,
    "features": features,
    "scores": score,
}


def builder(work: Work) -> Build:
    """The build function that the store calls, with its surroundings bound."""

    def build(job: Job, folder: Path) -> None:
        try:
            BUILDERS[job.spec.kind](job, folder, work)
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"{' / '.join(job.arms)}, generation {job.spec.generation}: out of memory while making {job.spec.kind} "
                f"on {work.machine.device}: finished work is kept; lower train.batch_size or sampling.shard, or split "
                f"batches with train.accumulate. ({str(error).splitlines()[0]})"
            ) from error

    return build


class OutOfMemoryError(CollapseSimError):
    """The recipe asks for more memory than the device has."""

    exit_code = 2
