"""The contract between the engine and a model family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info

Rows = Mapping[str, Tensor]  # columns of one batch: name -> (n, ...); in an ensemble (S, n, ...)
Prediction = Any
Conditioning = Literal[
    "real", "held_out", "fitted"
]  # the rows that samples are conditioned on: see hooks.conditioning_of


@dataclass(frozen=True)
class Inputs:
    """One training batch after `corrupt`: clean rows, noise, masks and times. Everything random is already drawn.

    `tensors` have the row axis first. `count` is what losses are divided by (rows or tokens), known before backward.
    A `corrupt` that reorders its rows says how: row i of the batch is row `order[i]` of those that it was given.
    `weights` are set by the engine: what each row counts in the loss, in the batch's order.
    """

    tensors: Mapping[str, Tensor]
    count: int | Tensor
    fixed: bool = False  # shapes must follow from these tensors' shapes alone: a compiled program reads no values
    order: Tensor | None = None  # (n,) int64
    weights: Tensor | None = None  # (n,) float32

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def split(self, parts: int) -> list[Inputs]:
        """Micro-batches. Each keeps the count of the *whole* batch, so that their gradients add up to the batch's."""
        columns = {name: tensor.chunk(parts) for name, tensor in self.tensors.items()}
        pieces = len(next(iter(columns.values())))
        orders = [None] * pieces if self.order is None else self.order.chunk(parts)
        weights = [None] * pieces if self.weights is None else self.weights.chunk(parts)
        return [
            Inputs({name: column[i] for name, column in columns.items()}, self.count, self.fixed, orders[i], weights[i])
            for i in range(pieces)
        ]

    def part(self, rows: slice) -> Inputs:
        """Some of the rows, with the count of the *whole* batch. It may have none."""
        columns = {name: tensor[rows].contiguous() for name, tensor in self.tensors.items()}
        order, weights = (None if of is None else of[rows] for of in (self.order, self.weights))
        return Inputs(columns, self.count, self.fixed, order, weights)

    @property
    def rows(self) -> int:
        return len(next(iter(self.tensors.values())))

    def weighted(self, weights: Tensor) -> Inputs:
        """The batch with the weights (n,) of the rows that `corrupt` was given, in their order."""
        return replace(self, weights=weights if self.order is None else weights[self.order])


class Conditions(NamedTuple):
    """What to sample: the number of rows and, for conditional data, the columns to condition on ((n, ...) each)."""

    rows: int
    columns: Mapping[str, Tensor]


@runtime_checkable
class ModelFamily(Protocol):
    """A frozen config object; its fields are its configuration (see component.Component).

    Losses and distillation terms are SUMS over rows (or tokens); the engine divides by `inputs.count` once.
    What a family may offer beside this is in families/hooks.py, a protocol for each ability.
    """

    version: ClassVar[int]
    kinds: ClassVar[tuple[str, ...]]  # the kinds of data it can model: "images", "points", "regression"
    terms: ClassVar[tuple[str, ...]]  # the distillation terms it offers

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a row that it trains on and generates: a class variable, or decided by settings."""
        ...

    def describe(self) -> dict[str, Any]: ...

    def resolve_files(self, data_dir: Path) -> Self:
        """A copy with the files that it reads located (component.Component has a default). Raises MissingError."""
        ...

    def check(self, info: Info) -> None:
        """Raise ValueError when this model cannot be used on this data; the message says what to change."""
        ...

    def build(self, info: Info) -> nn.Module:
        """A new model. The engine has seeded torch's global generator."""
        ...

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        """Draw ALL randomness of a training step, so that student and teacher see the same x_t, t, noise and masks."""
        ...

    def predict(self, model: nn.Module, inputs: Inputs) -> Prediction:
        """A pure forward pass, without randomness."""
        ...

    def loss(self, prediction: Prediction, inputs: Inputs) -> Tensor:
        """The sum over rows, a scalar."""
        ...

    def distillation(self, student: Prediction, teacher: Prediction, inputs: Inputs) -> dict[str, Tensor]:
        """Every name in `terms` -> a sum over rows that is minimal when student == teacher.

        Optional: `regularised` names the terms with a regulariser of the student, whose minimum is elsewhere.
        """
        ...

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        """The columns of `conditions.rows` generated rows; images as uint8 (n, C, H, W)."""
        ...


@runtime_checkable
class ClosedForm(Protocol):
    """A family that is fitted in closed form, for all seeds at once. Tensors have a leading ensemble axis S >= 1."""

    def solve(
        self, info: Info, rows: Rows, teacher: nn.Module | None, weights: Mapping[str, float], draws: Draws
    ) -> nn.Module:
        """The model that minimises mean loss + sum of (weight x mean distillation term) over `rows` ((S, n, ...))."""
        ...

    def build_ensemble(self, info: Info, size: int) -> nn.Module:
        """A model with leading axis S = size, into which the state of `solve`'s result can be loaded."""
        ...


_checks: ContextVar[list[Tensor] | None] = ContextVar("checks", default=None)


@contextmanager
def checks_later() -> Iterator[list[Tensor]]:
    """Within it `intensities` does not raise: whether each of its images are finite is put into a list, bool () each.
    For several models as one program (torch.func.vmap), in which no value can be looked at."""
    checks: list[Tensor] = []
    token = _checks.set(checks)
    try:
        yield checks
    finally:
        _checks.reset(token)


def intensities(x: Tensor) -> Tensor:
    """Image values, clipped to [0, 255] and rounded to uint8. Raises FloatingPointError if one is not finite, since its
    uint8 value would be arbitrary."""
    finite, checks = x.isfinite().all(), _checks.get()
    if checks is not None:
        checks.append(finite)
    elif not bool(finite):
        raise FloatingPointError("the generated images are not finite")
    return x.clamp(0, 255).round().to(torch.uint8)


def matmul_per_seed(left: Tensor, right: Tensor) -> Tensor:
    """(S, n, m) @ (S, m, p), one product per seed. Batched kernels sum in an order that depends on S, but each seed of
    an ensemble must get exactly the bytes that it would get alone."""
    if left.shape[-1] == 1:
        return left * right  # nothing is summed
    return torch.stack([a @ b for a, b in zip(left, right, strict=True)])
