"""The only sampling driver: shard by shard, each with a seed of its own, continued where a kill left off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from collapse_sim.core.errors import DivergedError, PluginError
from collapse_sim.core.plugins import name_of
from collapse_sim.core.randomness import Draws
from collapse_sim.engine import artefacts
from collapse_sim.engine.given import given_to
from collapse_sim.engine.pieces import Pieces, in_pieces, layout
from collapse_sim.engine.work import JobContext
from collapse_sim.families.base import Conditions
from collapse_sim.plan.specs import SampleSpec
from collapse_sim.store.jobs import Job, where
from collapse_sim.store.rowfile import RowWriter

ROWS_FILE = "samples.safetensors"


def sample(job: Job, folder: Path, work: JobContext) -> None:
    """Draw a generation's rows into samples.safetensors. Resuming repeats at most one shard.

    Raises DivergedError when the model generates what is not finite.
    """
    spec = job.spec
    assert isinstance(spec, SampleSpec)
    train = spec.model.train
    machine = work.machine.with_precision(train.precision, train.tf32) if train else work.machine
    family = spec.model.family
    model = artefacts.model(work.store, spec.model, job.seeds, machine)
    given = given_to(work.store, spec, job.seeds)
    seeds = job.seeds or (0,)
    role = "outputs" if spec.conditions == "held_out" else "sample"

    def draw(shard: int, first: int, last: int) -> dict[str, np.ndarray]:
        columns = {name: machine.put(column) for name, column in given(first, last).items()}
        conditions = Conditions(last - first, columns)
        dtype = torch.float64 if spec.stacked else torch.float32
        draws = Draws(seeds, role, spec.generation, shard, device=machine.device, dtype=dtype, stacked=spec.stacked)
        with torch.no_grad(), machine.autocast(), work.interruptible(), not_finite(f"{where(job, job.seeds)}: "):
            generated = family.sample(model, conditions, draws)
        check_columns(spec, generated, ((len(seeds),) if spec.stacked else ()) + (last - first,))
        rows = {name: to_numpy(column) for name, column in generated.items()}
        _check(job, rows)
        return rows

    if spec.stacked:
        columns = draw(0, 0, spec.rows)
        writer = RowWriter(folder / ROWS_FILE, len(seeds), layout(columns))
        writer.write(0, columns)
        writer.close()
        return
    in_pieces(job, folder, work, Pieces(ROWS_FILE, spec.rows, spec.shard, draw))


def check_columns(spec: SampleSpec, columns: object, rows: tuple[int, ...]) -> None:
    """Raise PluginError unless a family has generated what was asked for: the data's columns, so many rows of each.

    `rows`: (n,), for an ensemble (S, n).
    """
    family, info = spec.model.family, spec.model.data.info
    if not isinstance(columns, Mapping) or not all(isinstance(column, Tensor) for column in columns.values()):
        raise PluginError(f"{name_of(type(family))}: `sample` gave no mapping of names to tensors")
    lacking = [name for name in family.columns if name in info.columns and name not in columns]
    if lacking:
        raise PluginError(f"{name_of(type(family))}: `sample` gave {', '.join(map(str, columns))} and no {lacking[0]}")
    for name, column in columns.items():
        shape, dtype = info.columns.get(name, ((), ""))
        found = (tuple(column.shape), str(column.dtype).removeprefix("torch."))
        if found != ((*rows, *shape), dtype):
            needed = f"{(*rows, *shape)} of {dtype}" if dtype else f"only {', '.join(info.columns)}"
            raise PluginError(
                f"{name_of(type(family))}: `sample` gave {name} of shape {found[0]} and dtype {found[1]}; "
                f"needed: {needed}"
            )


@contextmanager
def not_finite(place: str) -> Iterator[None]:
    """What families and torch raise for outputs that are no numbers becomes a DivergedError: they cannot be rounded to
    intensities, and no token can be drawn by them."""
    try:
        yield
    except FloatingPointError as error:
        raise DivergedError(f"{place}{error}; the chain ends there") from error
    except RuntimeError as error:
        if "probability tensor contains" not in str(error):
            raise
        raise DivergedError(f"{place}the model's logits are not finite; the chain ends there") from error


def _check(job: Job, columns: Mapping[str, np.ndarray]) -> None:
    """Raise DivergedError for the seeds whose rows are not finite."""
    for name, column in columns.items():
        if column.dtype.kind != "f" or np.isfinite(column).all():
            continue
        stacked = job.spec.stacked
        good = [bool(np.isfinite(part).all()) for part in (column if stacked else [column])]
        bad = tuple(seed for seed, whole in zip(job.seeds, good, strict=True) if not whole)
        raise DivergedError(f"{where(job, bad)}: samples' {name} is not finite; the chain ends there", bad)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A contiguous array on the CPU."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
