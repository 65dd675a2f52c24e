"""What a family may offer beside its contract (families/base.py): a small protocol for each ability.

A family that has the method or the attribute has the ability; `collapse_sim.testing.check_family` tests each of them.
Closed forms have a contract of their own, families.base.ClosedForm.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.data.sources import Chain
from collapse_sim.families.base import Conditioning, Inputs, Prediction, Rows


@runtime_checkable
class HasLossUnit(Protocol):
    """The unit of the loss divided by `inputs.count`, which tables and plots show."""

    loss_unit: ClassVar[str]


@runtime_checkable
class Stacks(Protocol):
    """Networks that compute the same under torch.func.vmap: fits of one architecture then train as one program.

    No randomness in the forward pass (dropout), no statistics over batches that it changes, no branches on values, and
    no tensors beside its parameters in which two models differ.
    """

    @property
    def stacks(self) -> bool: ...


@runtime_checkable
class RowLosses(Protocol):
    """The loss of every single row, which intervals over held-out rows are computed from."""

    def row_losses(self, prediction: Prediction, inputs: Inputs) -> Tensor:
        """(n,) or in an ensemble (S, n): what each row adds to `loss`, in the order of `inputs`."""
        ...


@runtime_checkable
class HasRowCounts(Protocol):
    """Rows that add another number than 1 to `inputs.count`, as with tokens."""

    def row_counts(self, inputs: Inputs) -> Tensor:
        """(n,) or in an ensemble (S, n): what each row adds to `inputs.count`."""
        ...


@runtime_checkable
class TokenLosses(Protocol):
    """The loss of every single token, for weightings of tokens."""

    def token_losses(self, prediction: Prediction, inputs: Inputs) -> Tensor:
        """(n, L) float32: -log p of every predicted token in nats, 0 where there is none. A row's sum is its loss."""
        ...


@runtime_checkable
class HasPositions(Protocol):
    """Rows that are sequences: their layers' outputs have a position axis, of which only a part is in use."""

    def positions(self, path: str, inputs: Inputs, length: int) -> Tensor:
        """(n, length) bool: which of the positions of the output (n, length, ...) of the layer `path` are in use."""
        ...


@runtime_checkable
class SolvesWeighted(Protocol):
    """Closed forms (families.base.ClosedForm) whose rows may have weights."""

    def solve_weighted(
        self,
        info: Info,
        rows: Rows,
        row_weights: Tensor,
        teacher: nn.Module | None,
        weights: Mapping[str, float],
        draws: Draws,
    ) -> nn.Module:
        """As `solve`, with each row's loss times its weight: `row_weights` (S, n) float64, of mean 1 for each seed, at
        least 0. With weights that are all 1 it gives the solution of `solve`, up to rounding."""
        ...


@runtime_checkable
class RowsAtOnce(Protocol):
    """Families whose activations are not proportional to the number of values in a row, such as language models."""

    def rows_at_once(self, model: nn.Module, rows: Rows) -> int:
        """How many rows an evaluation passes to the network at a time, at least 1."""
        ...


@runtime_checkable
class Regularised(Protocol):
    """Distillation terms with a regulariser of the student's own, which are least elsewhere than at the teacher."""

    regularised: ClassVar[tuple[str, ...]]


@runtime_checkable
class HasConditions(Protocol):
    """Columns of real rows that samples are generated for, such as the article of a summary. A setting may decide."""

    @property
    def conditions(self) -> tuple[str, ...]: ...


@runtime_checkable
class HasConditioning(Protocol):
    """Whose conditions samples are generated for: "real", rows that generation 0 is fitted to (the default), or
    "fitted", rows that the same model was fitted to, so that a generation continues what the previous one wrote."""

    @property
    def conditioned_on(self) -> Conditioning: ...


@runtime_checkable
class Encodes(Protocol):
    """An encoder into a latent space."""

    def encode(self, model: nn.Module, rows: Rows) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latents, (n, latent) each."""
        ...


@runtime_checkable
class HasTextLikelihood(Protocol):
    """The likelihood of texts."""

    def nats(self, model: nn.Module, rows: Rows) -> tuple[Tensor, Tensor]:
        """-log p of every row and its number of predicted tokens: (n,) float64 and (n,) int64, on the CPU."""
        ...


@runtime_checkable
class Continues(Protocol):
    """Texts that go on from the beginnings of texts."""

    def continuations(self, model: nn.Module, prompts: Tensor, draws: Draws) -> Tensor:
        """(n, P) prompts -> (n, L) rows that begin with them."""
        ...


@runtime_checkable
class HasTrajectory(Protocol):
    """Samplers with states between noise and samples."""

    def trajectory(self, model: nn.Module, rows: int, frames: int, draws: Draws) -> Tensor:
        """States from noise to samples, (frames, rows, ...), as the rows of the data; the last one is the sample."""
        ...


@runtime_checkable
class HasTheory(Protocol):
    """Theoretical curves."""

    def theory(self, metric: str, chain: Chain, data: Data, info: Info) -> list[float] | None:
        """Expected values of a metric (by its name in the registry, or "module:Class") at generations 0, 1, ... of a
        chain of models; None where they are unknown."""
        ...


@runtime_checkable
class Exports(Protocol):
    """Models that other programs can load."""

    def export(self, model: nn.Module, info: Info, folder: Path) -> list[Path]:
        """Write a model (on the CPU, in eval mode; of a closed form with an ensemble axis of 1) in the other program's
        format into the existing folder, under its own name. Returns the paths of the written files: [] when there is no
        such format for this data. `collapse-sim export` calls it, after weights.safetensors and config.json."""
        ...


def conditioning_of(family: object) -> Conditioning:
    """Whose conditions a family's samples are generated for (HasConditioning)."""
    return family.conditioned_on if isinstance(family, HasConditioning) else "real"


def row_counts_of(family: object, inputs: Inputs) -> Tensor | None:
    """(n,): what each row adds to `inputs.count`. None: 1 each."""
    return family.row_counts(inputs) if isinstance(family, HasRowCounts) else None
