"""The contract between the engine and a model family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info

Rows = Mapping[str, Tensor]  # columns of one batch: name -> (n, ...); in an ensemble (S, n, ...)
Prediction = Any
Conditioning = Literal["real", "held_out", "fitted"]  # the rows that samples are conditioned on: see conditioning_of


@dataclass(frozen=True)
class Inputs:
    """One training batch after `corrupt`: clean rows, noise, masks and times. Everything random is already drawn.

    `tensors` have the row axis first. `count` is what losses are divided by (rows or tokens), known before backward.
    """

    tensors: Mapping[str, Tensor]
    count: int | Tensor

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def split(self, parts: int) -> list[Inputs]:
        """Micro-batches. Each keeps the count of the *whole* batch, so that their gradients add up to the batch's."""
        columns = {name: tensor.chunk(parts) for name, tensor in self.tensors.items()}
        pieces = len(next(iter(columns.values())))
        return [Inputs({name: column[i] for name, column in columns.items()}, self.count) for i in range(pieces)]


class Conditions(NamedTuple):
    """What to sample: the number of rows and, for conditional data, the columns to condition on ((n, ...) each)."""

    rows: int
    columns: Mapping[str, Tensor]


@runtime_checkable
class ModelFamily(Protocol):
    """A frozen config object; its fields are its configuration (see component.Component).

    Losses and distillation terms are SUMS over rows (or tokens); the engine divides by `inputs.count` once. Optional:
    `loss_unit`, the unit of the divided loss, shown in tables and plots; `row_losses` (see RowLosses).
    """

    version: ClassVar[int]
    kinds: ClassVar[tuple[str, ...]]  # the kinds of data it can model: "images", "points", "regression"
    columns: ClassVar[tuple[str, ...]]  # the columns of a row that it trains on
    terms: ClassVar[tuple[str, ...]]  # the distillation terms it offers

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


def conditioning_of(family: object) -> Conditioning:
    """The family's `conditioned_on`: "real" (the default: rows that generation 0 is fitted to) or "fitted" (rows that
    the same model was fitted to, so that a generation continues what the previous one wrote)."""
    conditioning: Conditioning = getattr(family, "conditioned_on", "real")
    return conditioning


@runtime_checkable
class RowLosses(Protocol):
    """A family that returns the loss of every single row, which intervals over held-out rows are computed from.

    Optional: `row_counts(inputs)`, (n,) or in an ensemble (S, n): what each row adds to `inputs.count` where that is
    not 1, as with tokens.
    """

    def row_losses(self, prediction: Prediction, inputs: Inputs) -> Tensor:
        """(n,) or in an ensemble (S, n): what each row adds to `loss`, in the order of `inputs`."""
        ...


def row_counts_of(family: object, inputs: Inputs) -> Tensor | None:
    """(n,): what each row adds to `inputs.count`. None: 1 each."""
    row_counts: Callable[[Inputs], Tensor] | None = getattr(family, "row_counts", None)
    return None if row_counts is None else row_counts(inputs)


def rows_at_once_of(family: object) -> Callable[[nn.Module, Rows], int] | None:
    """The family's `rows_at_once(model, rows)`, or None: how many rows an evaluation passes to the network at a time.

    For families whose activations are not proportional to the number of values in a row, such as language models.
    """
    rows_at_once: Callable[[nn.Module, Rows], int] | None = getattr(family, "rows_at_once", None)
    return rows_at_once


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


def theory_of(family: object) -> Any:
    """The family's `theory` method, or None. Families with known theoretical curves have one (see plan/theory.py)."""
    return getattr(family, "theory", None)


def exporter_of(family: object) -> Callable[[nn.Module, Info, Path], list[Path]] | None:
    """The family's `export(model, info, folder)`, or None. Families whose models other programs can load have one.

    It writes one model (on the CPU, in eval mode; for a closed form with an ensemble axis of 1) in the other program's
    format into the existing folder, under its own name. It returns the paths of the written files: [] when there is no
    such format for this data. `collapse-sim export` calls it, after weights.safetensors and config.json.
    """
    export: Callable[[nn.Module, Info, Path], list[Path]] | None = getattr(family, "export", None)
    return export


def intensities(x: Tensor) -> Tensor:
    """Image values, clipped to [0, 255] and rounded to uint8. Raises FloatingPointError if one is not finite, since its
    uint8 value would be arbitrary."""
    if not bool(x.isfinite().all()):
        raise FloatingPointError("the generated images are not finite")
    return x.clamp(0, 255).round().to(torch.uint8)


def matmul_per_seed(left: Tensor, right: Tensor) -> Tensor:
    """(S, n, m) @ (S, m, p), one product per seed. Batched kernels sum in an order that depends on S, but each seed of
    an ensemble must get exactly the bytes that it would get alone."""
    return torch.stack([a @ b for a, b in zip(left, right, strict=True)])
