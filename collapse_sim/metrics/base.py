"""The contract of a metric, and what a metric may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from torch import Tensor, nn

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.families.base import ModelFamily

if TYPE_CHECKING:
    from collapse_sim.core.machine import Machine
    from collapse_sim.metrics.weights import WeightsFile

Need = Literal["model", "samples", "outputs", "origin", "real", "held_out"]
Which = Literal["samples", "outputs", "real", "held_out"]


@dataclass(frozen=True)
class FeatureSpace:
    """What figures say of the features behind them."""

    label: str  # the network and its hash: "inception 6726825d"; "pixels"
    dimensions: int | None = None  # of a vector, where it is known


@dataclass(frozen=True)
class MetricNote:
    """What stands beside a metric's figures."""

    note: str  # "5,000 samples against 10,000 held-out rows; inception 6726825d"
    warning: str = ""  # what forbids to quote them: "biased: fewer than 10,000 samples"


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
        """Columns on the CPU; large ones are memory-mapped. `samples` are this generation's own, `outputs` what it
        generates for the held-out rows' conditions (summaries of held-out articles), in their order."""
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
    """A frozen config object (component.Component) that gives one number, for each seed.

    Optional: `feature_map`, the FeatureMap it looks through; `features_of`, the rows it wants features of (those of
    `needs` if left out); `facts(info, samples, space) -> MetricNote`, what stands beside its figures, where `space` is
    the FeatureSpace of its map or None, or instead `facts_of_truth(info, data, samples)`, where the data knows its
    truth;
    `unit`, a few words, and `bounds`, the (least, greatest) value there can be, each None where there is no such value:
    class variables that tables and plots go by and no key depends on (a setting `unit` will do, and `unit_of(family)`
    takes its place where the unit is the model's); `resolution(info, samples)`, the least step that the figure can
    make, such as one row's share: a verdict takes scores that differ by less for equal. A metric that has a value for
    every row is a RowMetric; where these are held-out rows and it offers `influence` (HeldOutRows), `compare` has
    intervals over them. One that has a value for every class, say, is a PartsMetric.
    """

    version: ClassVar[int]
    kinds: ClassVar[tuple[str, ...] | None]  # kinds of data it is for; None: any
    better: ClassVar[Literal["lower", "higher"] | None]

    @property
    def needs(self) -> tuple[Need, ...]:
        """What it looks at, and so what its stored score depends on: a class variable, or decided by settings."""
        ...

    def describe(self) -> dict[str, Any]: ...

    def resolve_files(self, data_dir: Path) -> Self:
        """Itself with what it reads of files found (component.Component has it). Raises MissingError."""
        ...

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        """Raise ValueError when this metric cannot be computed on this data or with this many samples."""
        ...

    def score(self, evaluation: Evaluation) -> float | Tensor:
        """A float; in an ensemble a tensor of shape (S,)."""
        ...


@runtime_checkable
class RowMetric(Metric, Protocol):
    """A metric that sums up values of rows, which are kept beside its score.

    The engine calls `score_rows` and `sum_up`, and `score` only where there are no values of rows.
    """

    def score_rows(self, evaluation: Evaluation) -> Mapping[str, Tensor] | None:
        """Columns of (n,) numbers each, on the CPU; None where this model has no values of rows."""
        ...

    def sum_up(self, columns: Mapping[str, Tensor]) -> float:
        """The score."""
        ...


@runtime_checkable
class HeldOutRows(RowMetric, Protocol):
    """One whose rows are the held-out rows, so that other ones would have given another score."""

    def influence(self, columns: Mapping[str, Tensor], evaluation: Evaluation) -> Tensor | None:
        """(n,): how much each held-out row moves the score, with sum 0 (metrics/influence.py), in an order that is the
        same for every model. None where the rows are no held-out ones."""
        ...


@runtime_checkable
class DrawnRows(RowMetric, Protocol):
    """One whose values are drawn as a histogram."""

    def histogram(self, columns: Mapping[str, Tensor]) -> tuple[str, Tensor]:
        """What is drawn: a label with its unit, and (n,) positive numbers, drawn on a logarithmic axis."""
        ...


@runtime_checkable
class PartsMetric(Metric, Protocol):
    """A metric of parts, such as one a class, whose values are kept beside its score and shown as `NAME[PART]`.

    The engine calls `score_parts` and `sum_up`, and not `score`. Unit and bounds of the parts are the metric's.
    Optional: `better_of_parts`, where it isn't `better`; `dead_below`, the value below which a part counts as dead, so
    that the generation from which on it stays there is told.
    """

    def parts(self, info: Info) -> tuple[str, ...]:
        """The names of all parts."""
        ...

    def score_parts(self, evaluation: Evaluation) -> Mapping[str, float | Tensor]:
        """A float a part; in an ensemble tensors of shape (S,). nan for a part that cannot be told."""
        ...

    def sum_up(self, parts: Mapping[str, float]) -> float:
        """The score of one seed, from the values of its parts."""
        ...


@runtime_checkable
class FeatureMap(Protocol):
    """A map from images to vectors, itself a frozen config object; `network` is fitted once and kept in the store.

    Optional: `label`, what figures call it; `dimensions(info)`, the length of its vectors.
    """

    version: ClassVar[int]

    def describe(self) -> dict[str, Any]: ...

    def check(self, info: Info) -> None:
        """Raise ValueError when this data cannot be mapped; the message says what would do."""
        ...

    def network(self) -> tuple[ModelFamily, Any] | None:
        """The family and its training settings (plan.settings.Train) to fit to the labelled real rows, or None."""
        ...

    def features(self, model: nn.Module | None, images: Tensor) -> Tensor:
        """uint8 (n, C, H, W) -> float32 (n, F) on the CPU."""
        ...


@runtime_checkable
class WeightedMap(FeatureMap, Protocol):
    """A feature map whose network is read from a file."""

    def weights(self, folder: Path) -> WeightsFile:
        """Find and check the file, in the data folder or where else it may be; nothing of it is run, because recipes
        are checked that nobody means to run. Asked before anything is fitted.

        Raises MissingError: the file, the folders looked in, how to get it, which other maps there are.
        """
        ...

    def load(self, weights: WeightsFile) -> nn.Module:
        """The network on the CPU, in eval mode: the `model` of `features`."""
        ...


@runtime_checkable
class UntriedMap(WeightedMap, Protocol):
    """A feature map whose file is code that nobody has seen, such as TorchScript: no check may run it."""

    def try_out(self, weights: WeightsFile) -> None:
        """Run the network once, when a run begins and before anything is fitted; `weights.dimensions` is known then.

        Raises MissingError when it gives no features.
        """
        ...


@runtime_checkable
class ClassifyingMap(FeatureMap, Protocol):
    """A feature map that also says which class an image shows."""

    own_classes: ClassVar[bool]  # True: its classes are the data's labels

    def classified(self, model: nn.Module | None, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (n, C, H, W) -> features and float32 (n, classes) probabilities, whose rows sum to 1, in one pass."""
        ...
