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
Conditioning = Literal[
    "real", "held_out", "fitted"
]  # whose rows' columns samples are generated for: see conditioning_of


@dataclass(frozen=True)
class Inputs:
    """One training batch after `corrupt`: clean rows, noise, masks, times: everything random is already drawn.

    `tensors` have the row axis first; `count` is what losses are divided by (rows, or tokens), known before backward.
    """

    tensors: Mapping[str, Tensor]
    count: int | Tensor

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def split(self, parts: int) -> list[Inputs]:
        """Micro-batches. Each keeps the count of the *whole* batch, so that gradients add up to the batch's own."""
        columns = {name: tensor.chunk(parts) for name, tensor in self.tensors.items()}
        pieces = len(next(iter(columns.values())))
        return [Inputs({name: column[i] for name, column in columns.items()}, self.count) for i in range(pieces)]


class Conditions(NamedTuple):
    """What to sample: how many rows, and for conditional data the columns they are conditioned on ((n, ...) each)."""

    rows: int
    columns: Mapping[str, Tensor]


@runtime_checkable
class ModelFamily(Protocol):
    """A frozen config object; its fields are its configuration (see component.Component).

    Losses and distillation terms are SUMS over rows (or tokens); the engine divides by `inputs.count`, once. Optional:
    `loss_unit`, the unit of a loss that is so divided, which tables and plots show; `row_losses` (see RowLosses).
    """

    version: ClassVar[int]
    kinds: ClassVar[tuple[str, ...]]  # the kinds of data it models: "images", "points", "regression"
    columns: ClassVar[tuple[str, ...]]  # the columns of a row it trains on
    terms: ClassVar[tuple[str, ...]]  # the distillation terms it offers

    def describe(self) -> dict[str, Any]: ...

    def resolve_files(self, data_dir: Path) -> Self:
        """Itself with what it reads of files found (component.Component has it). Raises MissingError."""
        ...

    def check(self, info: Info) -> None:
        """Raise ValueError when this model cannot take this data; the message says what would do."""
        ...

    def build(self, info: Info) -> nn.Module:
        """A fresh model; the engine has seeded torch's global generator."""
        ...

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        """Draw ALL randomness of a training step: student and teacher then see the same x_t, t, noise and masks."""
        ...

    def predict(self, model: nn.Module, inputs: Inputs) -> Prediction:
        """A pure forward pass."""
        ...

    def loss(self, prediction: Prediction, inputs: Inputs) -> Tensor:
        """Sum over rows, a scalar."""
        ...

    def distillation(self, student: Prediction, teacher: Prediction, inputs: Inputs) -> dict[str, Tensor]:
        """Every name in `terms`, each a sum over rows that is least when student == teacher.

        Optional: `regularised` names those with a regulariser of the student's own, which are least elsewhere.
        """
        ...

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        """Columns of `conditions.rows` generated rows; images as uint8 (n, C, H, W)."""
        ...


def conditioning_of(family: object) -> Conditioning:
    """The family's `conditioned_on`: "real" (the default: rows that generation 0 is fitted to) or "fitted" (rows that
    the very model was fitted to, so that a generation writes behind what the one before wrote)."""
    found: Conditioning = getattr(family, "conditioned_on", "real")
    return found


@runtime_checkable
class RowLosses(Protocol):
    """A family that tells the loss of every single row, which intervals over held-out rows are made from.

    Optional beside it: `row_counts(inputs)`, (n,) or in an ensemble (S, n): what each row adds to `inputs.count` where
    that isn't 1, as with tokens.
    """

    def row_losses(self, prediction: Prediction, inputs: Inputs) -> Tensor:
        """(n,), in an ensemble (S, n): what each row adds to `loss`, in the order of `inputs`."""
        ...


def row_counts_of(family: object, inputs: Inputs) -> Tensor | None:
    """(n,): what each row adds to `inputs.count`, or None: 1 each."""
    found: Callable[[Inputs], Tensor] | None = getattr(family, "row_counts", None)
    return None if found is None else found(inputs)


def rows_at_once_of(family: object) -> Callable[[nn.Module, Rows], int] | None:
    """The family's `rows_at_once(model, rows)`, or None: how many rows an evaluation shows its network at a time.

    Families whose activations are not in proportion to their rows' values offer it, as language models.
    """
    found: Callable[[nn.Module, Rows], int] | None = getattr(family, "rows_at_once", None)
    return found


@runtime_checkable
class ClosedForm(Protocol):
    """A family whose fit is solved, for all seeds at once. Tensors have a leading ensemble axis S (possibly 1)."""

    def solve(
        self, info: Info, rows: Rows, teacher: nn.Module | None, weights: Mapping[str, float], draws: Draws
    ) -> nn.Module:
        """The model that minimises mean loss + sum of weights x mean distillation term over `rows` ((S, n, ...))."""
        ...

    def build_ensemble(self, info: Info, size: int) -> nn.Module:
        """A model with leading axis S = size, whose state `solve`'s result can be loaded into."""
        ...


def theory_of(family: object) -> Any:
    """The family's `theory` method, or None: families with known curves offer one (see plan/theory.py)."""
    return getattr(family, "theory", None)


def exporter_of(family: object) -> Callable[[nn.Module, Info, Path], list[Path]] | None:
    """The family's `export(model, info, folder)`, or None: families whose models other programs load offer one.

    It writes one model (on the CPU, in eval mode; of a closed form with an ensemble axis of 1) in that program's own
    format into the folder, which is there, below a name of its own, and returns the paths of what it wrote: [] when
    this data has no such format. `collapse-sim export` calls it, after weights.safetensors and config.json.
    """
    found: Callable[[nn.Module, Info, Path], list[Path]] | None = getattr(family, "export", None)
    return found


def intensities(x: Tensor) -> Tensor:
    """Values of images, clipped to [0, 255] and rounded to uint8. Raises FloatingPointError where one is not finite: it
    would become any intensity at all."""
    if not bool(x.isfinite().all()):
        raise FloatingPointError("the generated images are not finite")
    return x.clamp(0, 255).round().to(torch.uint8)


def matmul_per_seed(left: Tensor, right: Tensor) -> Tensor:
    """(S, n, m) @ (S, m, p), one product a seed: batched kernels sum in an order that depends on S, and an ensemble
    must give each seed exactly the bytes that it would get alone."""
    return torch.stack([a @ b for a, b in zip(left, right, strict=True)])
