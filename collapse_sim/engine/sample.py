"""The only sampling driver: shard by shard, each with its own seed, resumable after a kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from collapse_sim.core.errors import DivergedError, PluginError
from collapse_sim.core.events import Kind
from collapse_sim.core.machine import Machine
from collapse_sim.core.plugins import name_of
from collapse_sim.core.randomness import Draws
from collapse_sim.engine import artefacts
from collapse_sim.engine.calls import CompiledPieces
from collapse_sim.engine.given import given_to
from collapse_sim.engine.pieces import Pieces, in_pieces, layout
from collapse_sim.engine.work import JobContext
from collapse_sim.families.base import Conditions, ModelFamily
from collapse_sim.plan.specs import ModelSpec, SampleSpec
from collapse_sim.store.jobs import Job, where
from collapse_sim.store.rowfile import SAMPLES_FILE, RowWriter

ROWS_FILE = SAMPLES_FILE
Draw = Callable[[str, int, int, int], dict[str, np.ndarray]]  # (role, step, first row, row after the last) -> columns
ROLES: dict[Kind, str] = {"samples": "sample", "own samples": "own sample"}  # of random draws


class ModelInUse(NamedTuple):
    """What rows are drawn with."""

    family: ModelFamily
    model: nn.Module
    machine: Machine  # the device in the model's precision
    shaped: Callable[[Draws], Draws]  # draws as the guidance has them


@contextmanager
def model_in_use(context: JobContext, spec: SampleSpec, seeds: Sequence[int]) -> Iterator[ModelInUse]:
    """The model that samples are drawn from, guided as the spec says, for forward passes: no gradients, and a requested
    stop is honoured before each."""
    guidance = spec.guidance
    with fitted_model(context, spec.model, seeds) as (model, machine):
        family, shaped = spec.model.family, _as_they_are
        if guidance is not None:
            second = artefacts.model(context.store, spec.auxiliary, seeds, machine) if spec.auxiliary else None
            family, model = guidance.models(family, model, second)
            model, shaped = model.eval(), partial(guidance.draws, family)
        with machine.inference(model):
            yield ModelInUse(family, model, machine, shaped)


@contextmanager
def fitted_model(context: JobContext, spec: ModelSpec, seeds: Sequence[int]) -> Iterator[tuple[nn.Module, Machine]]:
    """A model and the device in its precision, for forward passes: no gradients, and a requested stop is honoured
    before each."""
    machine = context.machine_for(spec)
    model = artefacts.model(context.store, spec, seeds, machine)
    with machine.inference(model), context.interruptible():
        yield model, machine


def _as_they_are(draws: Draws) -> Draws:
    return draws


class Sampler:
    """Draws rows from the model of a SampleSpec: the only place where a family's `sample` is called."""

    def __init__(self, context: JobContext, spec: SampleSpec, seeds: Sequence[int], place: str = "") -> None:
        """`place` is the prefix of error messages."""
        self._context, self._spec, self._seeds, self._place = context, spec, tuple(seeds), place
        self._conditions = given_to(context.store, spec, seeds)
        self.in_use: ModelInUse  # within `drawing`

    @contextmanager
    def drawing(self) -> Iterator[Draw]:
        """Yield `draw(role, step, first, last)`, which draws rows first, ..., last - 1: (n, ...) each, for an ensemble
        (S, n, ...). Role and step choose the random draws.

        Raises DivergedError when the model generates values that are not finite, PluginError for wrong columns.
        """
        spec, seeds = self._spec, self._seeds or (0,)
        dtype = torch.float64 if spec.stacked else torch.float32
        with model_in_use(self._context, spec, self._seeds) as in_use:
            family, model, machine, shaped = self.in_use = in_use

            def draw(role: str, step: int, first: int, last: int) -> dict[str, np.ndarray]:
                conditions = {name: machine.put(column) for name, column in self._conditions(first, last).items()}
                draws = Draws(
                    seeds, role, spec.generation, step, device=machine.device, dtype=dtype, stacked=spec.stacked
                )
                with not_finite(self._place):
                    generated = family.sample(model, Conditions(last - first, conditions), shaped(draws))
                check_columns(spec, generated, ((len(seeds),) if spec.stacked else ()) + (last - first,))
                return {name: to_numpy(column) for name, column in generated.items()}

            yield draw


def role_of(spec: SampleSpec) -> str:
    """The role of the random draws of rows."""
    role = "outputs" if spec.conditions == "held_out" else ROLES[spec.kind]
    return f"{role}/{spec.draw}" if spec.draw else role


def sample(job: Job, folder: Path, context: JobContext) -> None:
    """Draw a generation's rows into samples.safetensors. Resuming repeats at most one shard.

    Raises DivergedError when the model generates values that are not finite.
    """
    spec = job.spec
    assert isinstance(spec, SampleSpec)
    role = role_of(spec)
    sampler = Sampler(context, spec, job.seeds, f"{where(job, job.seeds)}: ")
    with sampler.drawing() as draw:
        family, model, machine, _ = sampler.in_use
        pieces = CompiledPieces(context, job, spec, family, model, machine)

        def shard(number: int, first: int, last: int) -> dict[str, np.ndarray]:
            with pieces.piece(number, last - first):
                rows = draw(role, number, first, last)
            check_finite(job, rows)
            return rows

        if not spec.stacked:
            in_pieces(job, folder, context, Pieces(ROWS_FILE, spec.rows, spec.shard, shard))
            return
        columns = shard(0, 0, spec.rows)
    writer = RowWriter(folder / ROWS_FILE, len(job.seeds or (0,)), layout(columns))
    writer.write(0, columns)
    writer.close()


def check_columns(spec: SampleSpec, columns: object, rows: tuple[int, ...]) -> None:
    """Raise PluginError unless a family generated what was asked for: the data's columns, each with `rows` rows.

    `rows`: (n,), for an ensemble (S, n).
    """
    family, info = spec.model.family, spec.model.data.info
    if not isinstance(columns, Mapping) or not all(isinstance(column, Tensor) for column in columns.values()):
        raise PluginError(f"{name_of(type(family))}: `sample` did not return a mapping of names to tensors")
    lacking = [name for name in family.columns if name in info.columns and name not in columns]
    if lacking:
        raise PluginError(f"{name_of(type(family))}: `sample` gave {', '.join(map(str, columns))} and no {lacking[0]}")
    for name, column in columns.items():
        shape, dtype = info.columns.get(name, ((), ""))
        actual = (tuple(column.shape), str(column.dtype).removeprefix("torch."))
        if actual != ((*rows, *shape), dtype):
            needed = f"{(*rows, *shape)} of {dtype}" if dtype else f"only {', '.join(info.columns)}"
            raise PluginError(
                f"{name_of(type(family))}: `sample` gave {name} of shape {actual[0]} and dtype {actual[1]}; "
                f"needed: {needed}"
            )


@contextmanager
def not_finite(place: str) -> Iterator[None]:
    """Turn errors of families and torch about outputs that are not finite into a DivergedError: such outputs cannot be
    rounded to intensities, and no token can be drawn from them."""
    try:
        yield
    except FloatingPointError as error:
        raise DivergedError(f"{place}{error}; the chain ends there") from error
    except RuntimeError as error:
        if "probability tensor contains" not in str(error):
            raise
        raise DivergedError(f"{place}the model's logits are not finite; the chain ends there") from error


def check_finite(job: Job, columns: Mapping[str, np.ndarray]) -> None:
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
