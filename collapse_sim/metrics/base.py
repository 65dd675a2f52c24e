"""The contract of a metric, and what a metric may look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from collapse_sim.data.base import Data, Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.randomness import Draws

if TYPE_CHECKING:
    from collapse_sim.engine.device import Machine

Need = Literal["model", "samples", "origin", "real", "held_out"]
Which = Literal["samples", "real", "held_out"]


class Evaluation(Protocol):
    """One model and its samples under evaluation. Everything is loaded when asked for, and only what `needs` declares.

    In an ensemble (closed-form families, `stacked`) tensors have a leading axis S, one entry a seed.
    """

    info: Info
    data: Data
    family: ModelFamily
    generation: int
    seeds: tuple[int, ...]
    stacked: bool
    machine: Machine

    def model(self) -> nn.Module:
        """This generation's model, in eval mode, on the machine's device."""
        ...

    def origin(self) -> nn.Module:
        """Generation 0's model of the same seed."""
        ...

    def rows(self, which: Which) -> Mapping[str, Tensor]:
        """Columns on the CPU; large uint8 columns are memory-mapped. `samples` are this generation's own."""
        ...

    def features(self, feature_map: FeatureMap, which: Which) -> Tensor:
        """(n, F) float32 features on the CPU, computed once per rows and map, and kept in the store."""
        ...

    def probabilities(self, feature_map: FeatureMap, which: Which) -> Tensor:
        """(n, classes) class probabilities of a feature map that classifies."""
        ...

    def draws(self, role: str) -> Draws:
        """Randomness for the metric's own use (a subset, latents), the same for every arm."""
        ...


@runtime_checkable
class Metric(Protocol):
    """A frozen config object (component.Component) that gives one number, for each seed."""

    version: ClassVar[int]
    kinds: ClassVar[tuple[str, ...] | None]  # kinds of data it is for; None: any
    better: ClassVar[Literal["lower", "higher"] | None]

    @property
    def needs(self) -> tuple[Need, ...]:
        """What it looks at, and so what its stored score depends on: a class variable, or decided by settings."""
        ...

    def describe(self) -> dict[str, Any]: ...

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        """Raise ValueError when this metric cannot be computed on this data or with this many samples."""
        ...

    def score(self, evaluation: Evaluation) -> float | Tensor:
        """A float; in an ensemble a tensor of shape (S,)."""
        ...


@runtime_checkable
class FeatureMap(Protocol):
    """A map from images to vectors, itself a frozen config object; `network` is fitted once and kept in the store."""

    version: ClassVar[int]

    def describe(self) -> dict[str, Any]: ...

    def check(self, info: Info) -> None:
        """Raise ValueError when this data cannot be mapped; the message says what would do."""
        ...

    def network(self) -> tuple[ModelFamily, Any] | None:
        """The family and its training settings (recipe.schema.Train) to fit to the labelled real rows, or None."""
        ...

    def features(self, model: nn.Module | None, images: Tensor) -> Tensor:
        """uint8 (n, C, H, W) -> float32 (n, F)."""
        ...


@runtime_checkable
class ClassifyingMap(FeatureMap, Protocol):
    """A feature map that also says which class an image shows."""

    def probabilities(self, model: nn.Module | None, images: Tensor) -> Tensor:
        """uint8 (n, C, H, W) -> float32 (n, classes); every row sums to 1."""
        ...
