"""Rows of several models of one architecture, drawn as one program: stacked parameters, batched products.

A member's rows are those that it draws alone up to rounding, since batched kernels may sum in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from collapse_sim.core.errors import DivergedError
from collapse_sim.core.machine import Machine
from collapse_sim.core.randomness import Draws
from collapse_sim.engine import artefacts
from collapse_sim.engine.given import given_to
from collapse_sim.engine.pieces import Pieces, pieces_together
from collapse_sim.engine.sample import ROWS_FILE, check_columns, check_finite, role_of, to_numpy
from collapse_sim.engine.stacked import check_buffers, plain_attention
from collapse_sim.engine.work import JobContext
from collapse_sim.families.base import Conditions, ModelFamily, checks_later
from collapse_sim.plan.specs import SampleSpec
from collapse_sim.store.jobs import Job, where


def sample_together(jobs: Sequence[Job], folders: Sequence[Path], context: JobContext) -> dict[int, Exception]:
    """Draw the rows of several models (engine/groups.py) at the same time, and write the file of each.

    Returns {position in `jobs`: error} of those that diverged; the others are complete.
    """
    specs = [_spec(job) for job in jobs]
    first, errors = specs[0], dict[int, Exception]()
    given = [given_to(context.store, spec, job.seeds) for spec, job in zip(specs, jobs, strict=True)]
    with drawing_together(context, specs, [job.seeds for job in jobs]) as draw:

        def shard(number: int, start: int, end: int) -> list[dict[str, np.ndarray] | None]:
            conditions = [columns(start, end) for columns in given]
            rows, finite = draw(number, end - start, conditions)
            for i, job in enumerate(jobs):
                if i in errors:
                    continue
                try:
                    if not finite[i]:
                        raise DivergedError(f"{where(job, job.seeds)}: {NOT_FINITE}; the chain ends there", job.seeds)
                    check_finite(job, rows[i])
                except DivergedError as error:
                    errors[i] = error
            return [None if i in errors else own for i, own in enumerate(rows)]

        pieces_together(jobs, folders, context, Pieces(ROWS_FILE, first.rows, first.shard, _unused), shard)
    return errors


NOT_FINITE = "the generated images are not finite"


def _unused(piece: int, first: int, last: int) -> Mapping[str, np.ndarray]:
    raise AssertionError("pieces of a group are made together")


def _spec(job: Job) -> SampleSpec:
    assert isinstance(job.spec, SampleSpec)
    return job.spec


# (shard, rows, each member's conditions) -> each member's columns (n, ...), and whether they are finite
DrawTogether = Callable[[int, int, Sequence[Mapping[str, Tensor]]], tuple[list[dict[str, np.ndarray]], list[bool]]]


@contextmanager
def drawing_together(
    context: JobContext, specs: Sequence[SampleSpec], seeds: Sequence[Sequence[int]]
) -> Iterator[DrawTogether]:
    """Yield a function that draws a shard's rows of all models. Raises ValueError for models that differ in more than
    their parameters."""
    first = specs[0]
    family, machine = first.model.family, context.machine_for(first.model)
    models = [artefacts.model(context.store, spec.model, of, machine) for spec, of in zip(specs, seeds, strict=True)]
    stacked = StackedSampling(family, models, machine)
    own = [of[0] if of else 0 for of in seeds]
    with torch.no_grad(), machine.autocast(), context.interruptible():

        def draw(
            shard: int, rows: int, conditions: Sequence[Mapping[str, Tensor]]
        ) -> tuple[list[dict[str, np.ndarray]], list[bool]]:
            put = {name: machine.put(torch.stack([of[name] for of in conditions])) for name in conditions[0]}
            draws = Draws(own, role_of(first), first.generation, shard, device=machine.device, stacked=True)
            columns, finite = stacked.sample(rows, put, draws)
            check_columns(first, columns, (len(specs), rows))
            whole = {name: to_numpy(column) for name, column in columns.items()}
            return [{name: column[i] for name, column in whole.items()} for i in range(len(specs))], finite.tolist()

        yield draw


class StackedSampling:
    """The samplers of several models of one architecture as one program."""

    def __init__(self, family: ModelFamily, models: Sequence[nn.Module], machine: Machine) -> None:
        """Raises ValueError for models that differ in more than their parameters."""
        check_buffers(models)
        self._machine, self._count = machine, len(models)
        self._call = _Sampling(family, models[0])
        self._parameters = {
            f"model.{name}": torch.stack([model.get_parameter(name) for model in models])
            for name, _ in models[0].named_parameters()
        }

    def sample(self, rows: int, conditions: Mapping[str, Tensor], draws: Draws) -> tuple[dict[str, Tensor], Tensor]:
        """Columns (S, rows, ...) for conditions (S, rows, ...) and stacked draws, and whether each model's are finite,
        (S,)."""

        def one(
            parameters: dict[str, Tensor], given: dict[str, Tensor], member: Tensor
        ) -> tuple[dict[str, Tensor], Tensor]:
            with checks_later() as finite:
                columns = functional_call(self._call, parameters, (Conditions(rows, given), MemberDraws(draws, member)))
            good = torch.stack(finite).all() if finite else member >= 0
            return dict(columns), good

        members = torch.arange(self._count, device=self._machine.device)
        with plain_attention(self._machine):
            # "same": random tensors are drawn as they are, for all members at once, and each takes its own part
            columns, finite = vmap(one, randomness="same")(self._parameters, dict(conditions), members)
            return columns, finite


class _Sampling(nn.Module):
    """A family's `sample` as a function of its model's parameters."""

    def __init__(self, family: ModelFamily, model: nn.Module) -> None:
        super().__init__()
        self.model, self._family = model, family

    def forward(self, conditions: Conditions, draws: Draws) -> Mapping[str, Tensor]:
        return self._family.sample(self.model, conditions, draws)


class MemberDraws(Draws):
    """One member's part of stacked draws within torch.func.vmap, where its number is a batched tensor ()."""

    def __init__(self, draws: Draws, member: Tensor) -> None:
        self.device, self.dtype, self.stacked = draws.device, draws.dtype, False
        self._whole, self._member = draws, member

    @property
    def generator(self) -> torch.Generator:
        raise ValueError("members of a group share one call, and have a generator each")

    def normal(self, *shape: int) -> Tensor:
        return self._own(self._whole.normal(*shape))

    def uniform(self, *shape: int) -> Tensor:
        return self._own(self._whole.uniform(*shape))

    def integers(self, high: int, *shape: int) -> Tensor:
        return self._own(self._whole.integers(high, *shape))

    def permutation(self, n: int) -> Tensor:
        return self._own(self._whole.permutation(n))

    def _own(self, drawn: Tensor) -> Tensor:
        return drawn.index_select(0, self._member.reshape(1)).squeeze(0)
