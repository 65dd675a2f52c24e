"""The contracts of an arm's optional axes: what happens to rows, losses, weights and samples between two fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.data.sources import Plan
from collapse_sim.families.base import ModelFamily, Rows
from collapse_sim.remedies.own_fit import OwnFit

Operand = Literal["fit", "own", "previous"]
"""Models that a merge combines: the fit, a fit to its own samples, the model in use of the generation before."""
Judge = Literal["model", "origin"]  # the model that generated the candidates, and generation 0's
Reading = Callable[[nn.Module, Rows, Draws], Tensor]
"""(model, rows, draws) -> (n, ...): the network is in eval mode, rows and draws are on its device; no gradients."""


@runtime_checkable
class Remedy(Protocol):
    """What all four axes have in common: a frozen config object (see component.Component)."""

    version: ClassVar[int]

    def describe(self) -> dict[str, Any]: ...

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        """Raise ValueError when it cannot be used on this data or with this family; the message says what to change."""
        ...


@dataclass(frozen=True)
class FittedVerifier:
    """What a verifier has learnt."""

    tensors: Mapping[str, Tensor]  # on the CPU; of the same shapes for all seeds
    report: Mapping[str, float] = field(default_factory=dict)  # figures of its fit: {"auc": 0.81}


@dataclass(frozen=True)
class Pool:
    """The candidates of one generation and seed, and what a curation may judge them by.

    Candidates are several draws for the same `rows` conditions, one draw after the other (the last may be shorter):
    candidate i was generated for the condition of candidate i % rows. With `pool: past`, `rows` is the number of
    candidates.
    """

    columns: Mapping[str, Tensor]  # (N, ...) each, on the CPU
    rows: int  # rows per draw
    data: Data
    info: Info
    family: ModelFamily
    real: Callable[[], Mapping[str, Tensor]]  # the real rows that generation 0 was fitted to, (n, ...) each
    losses: Callable[[Judge], Tensor]
    """(N,) float64: every candidate's loss under a model, in the family's `loss_unit`: of texts, nats per token."""
    targets: Callable[[], Mapping[str, Tensor]] | None = None
    """The real rows whose conditions the candidates were generated for, in order: candidate i belongs to row i % rows;
    (rows, ...) each. None: they were not generated for conditions of real rows."""
    evaluated: Callable[[Judge, Mapping[str, Tensor], Reading], Tensor] | None = None
    """evaluated(judge, rows, read): what `read` returns for these rows, which may be candidates or real ones, read in
    pieces, on the CPU. None: the models are no networks."""
    verifier: Callable[[], FittedVerifier] | None = None
    """The curation's own verifier (HasVerifier), as it was fitted for this seed. None: it has none."""
    generation: int = 0
    """That generated the candidates; 0 with `pool: past`, where real rows are among them."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


@dataclass(frozen=True)
class Choice:
    """What a curation keeps of a pool."""

    index: Tensor  # (n,) int64 into the candidates; repeats are allowed
    weights: Tensor | None = None  # (n,) float32, or None: all 1
    columns: Mapping[str, Tensor] | None = None  # changed rows in place of the candidates', (n, ...) each
    report: Mapping[str, float] = field(default_factory=dict)  # figures for the journal: {"auc": 0.81}


@runtime_checkable
class Curation(Remedy, Protocol):
    """What happens to generated rows before a model is fitted to them."""

    pool: Literal["generation", "past"]
    """generation: each generation's samples are curated once. past: all rows that the strategy offers to a fit, real
    ones included, are the candidates of that fit."""

    def candidates(self, rows: int) -> int:
        """How many candidates are needed so that `rows` are kept; at least `rows`."""
        ...

    def choose(self, pool: Pool, rows: int, draws: Draws) -> Choice:
        """Keep exactly `rows` of the candidates. Raises ValueError when that is not possible: which number was
        accepted, and what to change."""
        ...


@runtime_checkable
class KeepsAll(Protocol):
    """A curation that may be set so that all samples of each generation stay as they are, in their order. It is then
    left out of the plan, and the arm has the artefacts of an arm without it."""

    @property
    def keeps_all(self) -> bool: ...


@runtime_checkable
class KeepsSubset(Protocol):
    """A curation that keeps candidates as they are, each at most once, in their order: if as many rows are kept as
    there are candidates, it changes nothing."""

    keeps_subset: ClassVar[bool]


@runtime_checkable
class AveragesLosses(Protocol):
    """A curation for which `Pool.losses` is the mean over several draws of the family's noise, from 1."""

    loss_draws: int


@runtime_checkable
class Verifier(Protocol):
    """What tells real rows from generated ones: a frozen config object (see component.Component).

    It is fitted once for each seed, to the real rows and the samples of generation 0, and kept in the store.
    """

    version: ClassVar[int]

    def describe(self) -> dict[str, Any]: ...

    def fit(self, pool: Pool, draws: Draws) -> FittedVerifier:
        """From a pool whose candidates are the samples of generation 0. Raises ValueError when that is not possible:
        what to change."""
        ...


@runtime_checkable
class HasVerifier(Protocol):
    """A curation that judges candidates by a verifier."""

    @property
    def verifier(self) -> Verifier | None: ...


@runtime_checkable
class HasExamples(Protocol):
    """A remedy that names settings with which `list remedies` asks it for its families: it has required ones, or its
    families depend on them."""

    examples: ClassVar[tuple[Mapping[str, Any], ...]]


@runtime_checkable
class CallsFunctions(Protocol):
    """A remedy that calls a user's own functions of rows, columns (n, ...) -> (n,)."""

    @property
    def own_functions(self) -> tuple[str, ...]:
        """Their names, module:function. They are tried on a few rows before anything is made."""
        ...


@runtime_checkable
class Weighting(Remedy, Protocol):
    """How rows or tokens count in the loss. It also is a RowWeighting or a TokenWeighting.

    Held-out losses are never weighted.
    """

    def changes(self, plan: Plan) -> bool:
        """Whether it changes a fit to these rows. Where it does not, the fit is the arm's without a weighting: the same
        artefact."""
        ...

    def check_plans(self, plans: Sequence[Plan]) -> None:
        """Raise ValueError when it has no meaning for any generation, of all those of an arm."""
        ...


@runtime_checkable
class RowWeighting(Weighting, Protocol):
    """Weights of rows by the generation that they are of."""

    def of_rows(self, plan: Plan, generations: Tensor, base: Tensor) -> Tensor:
        """(n,) float64, of mean 1: the weights of the rows of a fit. `generations` (n,) int64 are those that the rows
        are of (REAL: real rows), `base` (n,) float64 are weights that the rows have already, of mean 1 in each
        generation."""
        ...


@runtime_checkable
class TokenWeighting(Weighting, Protocol):
    """Weights of tokens by the model's own prediction."""

    renormalise: bool
    """Whether the loss is divided by the sum of the factors, and not by the number of tokens."""

    def factors(self, nats: Tensor) -> Tensor:
        """(n, L): the factor of every token's loss, from the losses (n, L) in nats. Where there is no token, nats are 0
        and so is the factor."""
        ...


@runtime_checkable
class Merge(Remedy, Protocol):
    """What becomes of a model's weights after its fit: a linear combination of models of the arm."""

    infeasible: Literal["refuse", "project"]
    """What happens where the combined parameters are not those of a model (families/hooks.py, Combinable)."""

    @property
    def own(self) -> OwnFit | None:
        """The fit to own samples that takes part."""
        ...

    def coefficients(self, k: int) -> Mapping[Operand, float]:
        """Of each model in generation k's; they add up to 1. A model with coefficient 0 is not needed."""
        ...


@runtime_checkable
class Guidance(Remedy, Protocol):
    """How samples are drawn from a fitted model."""

    @property
    def neutral(self) -> bool:
        """Whether it changes nothing; then the arm is planned without it."""
        ...

    @property
    def own(self) -> OwnFit | None:
        """The fit to own samples that is the second model."""
        ...

    def models(
        self, family: ModelFamily, model: nn.Module, auxiliary: nn.Module | None
    ) -> tuple[ModelFamily, nn.Module]:
        """The family and the model that samples are drawn from."""
        ...

    def draws(self, family: ModelFamily, draws: Draws) -> Draws:
        """The random draws that samples are drawn with."""
        ...
