"""The contract of a metric, the data that a metric can use, and what metrics share: notes and influences of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    """The feature space, as shown beside figures."""

    label: str  # the network and its hash: "inception 6726825d"; "pixels"
    dimensions: int | None = None  # of a vector, if known


@dataclass(frozen=True)
class MetricNote:
    """The note shown beside a metric's figures."""

    note: str  # "5,000 samples against 10,000 held-out rows; inception 6726825d"
    warning: str = ""  # why they should not be quoted: "biased: fewer than 10,000 samples"


class Evaluation(Protocol):
    """One model and its samples under evaluation. Data is loaded on request, and only what `needs` declares.

    In an ensemble (closed-form families, `stacked`) tensors have a leading axis S, one entry per seed.
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
        """Columns on the CPU; large ones are memory-mapped. `samples` are those of this generation; `outputs` are what
        it generates for the conditions of the held-out rows (summaries of held-out articles), in their order."""
        ...

    def features(self, feature_map: FeatureMap, which: Which, most: int | None = None) -> Tensor:
        """(n, F) float32 features on the CPU, computed once for each set of rows and map, and kept in the store.

        With `most` those of at most so many rows, drawn by `rows_drawn`: the same ones for every arm.
        """
        ...

    def probabilities(self, feature_map: FeatureMap, which: Which) -> Tensor:
        """(n, classes) class probabilities from a feature map that classifies."""
        ...

    def draws(self, role: str) -> Draws:
        """Randomness for the metric's own use (such as a subset or latents), the same for every arm."""
        ...


def rows_drawn(draws: Callable[[str], Draws], which: Which, rows: int, most: int | None) -> Tensor | None:
    """(most,): which of `rows` rows are used if at most `most` are, ascending; None: all. `draws`: Evaluation's.

    A smaller `most` has a part of the rows that a larger one has.
    """
    if most is None or rows <= most:
        return None
    drawn: Tensor = draws(f"metric_rows/{which}").permutation(rows).cpu()[:most].sort().values
    return drawn


@runtime_checkable
class Metric(Protocol):
    """A frozen config object (component.Component) that returns one number per seed.

    Optional members:

    - `feature_map`: the FeatureMap that it uses; `features_of`: the rows whose features it needs (default: `needs`).
    - `most_rows`: how many samples it uses at most, drawn by `Evaluation.features`; None, or without it: all. If no
      other metric needs them, the features of the others are not computed.
    - `metric_note(info, samples, space) -> MetricNote`: the note beside its figures; `space` is the FeatureSpace of its
      map or None. If the data knows its truth, `note_from_truth(info, data, samples)` instead.
    - `unit`, a few words, and `bounds`, the (least, greatest) possible value, None where there is none: class variables
      for tables and plots; no key depends on them. `unit` may be a setting; if the unit is that of the model's loss,
      `unit_of(family)` replaces it.
    - `measures`, a class variable: the aspects of collapse that it measures (metrics/aspects.py) for verdicts by
      definition; no key depends on it. Collapse is the direction that is not `better`, or a fall if it has none.
    - `resolution(info, samples)`: the smallest step of the figure, such as one row's share. Verdicts treat scores with
      smaller differences as equal.

    A metric with a value for every row is a RowMetric. If these are held-out rows and it has `influence` (HeldOutRows),
    `compare` computes intervals over them. A metric with a value for every part, such as a class, is a PartsMetric.
    """

    version: ClassVar[int]
    kinds: ClassVar[tuple[str, ...] | None]  # the kinds of data it is for; None: any
    better: ClassVar[Literal["lower", "higher"] | None]

    @property
    def needs(self) -> tuple[Need, ...]:
        """The data that it uses, and so what its stored score depends on: a class variable, or decided by settings."""
        ...

    def describe(self) -> dict[str, Any]: ...

    def resolve_files(self, data_dir: Path) -> Self:
        """A copy with the files that it reads located (component.Component has a default). Raises MissingError."""
        ...

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        """Raise ValueError when this metric cannot be computed on this data or with this number of samples."""
        ...

    def score(self, evaluation: Evaluation) -> float | Tensor:
        """A float; in an ensemble a tensor of shape (S,)."""
        ...


@runtime_checkable
class RowMetric(Metric, Protocol):
    """A metric that aggregates values of rows, which are stored with its score.

    The engine calls `score_rows` and `sum_up`, and `score` only when there are no values of rows.
    """

    def score_rows(self, evaluation: Evaluation) -> Mapping[str, Tensor] | None:
        """Columns of (n,) numbers each, on the CPU; None if this model has no values of rows."""
        ...

    def sum_up(self, columns: Mapping[str, Tensor]) -> float:
        """The score, from the values of the rows."""
        ...


class ScoredByRows:
    """Mixin of RowMetrics: the score is what `sum_up` makes of the values of rows."""

    def score(self: RowMetric, evaluation: Evaluation) -> float | Tensor:
        columns = self.score_rows(evaluation)
        assert columns is not None, "this metric always has values of rows"
        return self.sum_up(columns)


@runtime_checkable
class HeldOutRows(RowMetric, Protocol):
    """A metric whose rows are the held-out rows, so that other held-out rows would have given another score."""

    def influence(self, columns: Mapping[str, Tensor], evaluation: Evaluation) -> Tensor | None:
        """(n,): the influence of each held-out row on the score, with sum 0 (metrics/base.py), in an order that is
        the same for every model. None if the rows are not held-out rows."""
        ...


@runtime_checkable
class DrawnRows(RowMetric, Protocol):
    """A metric whose values are plotted as a histogram."""

    def histogram(self, columns: Mapping[str, Tensor]) -> tuple[str, Tensor]:
        """A label with its unit, and (n,) positive numbers, plotted on a logarithmic axis."""
        ...


@runtime_checkable
class PartsMetric(Metric, Protocol):
    """A metric of parts, such as classes. Their values are stored with its score and shown as `NAME[PART]`.

    The engine calls `score_parts` and `sum_up`, not `score`. Unit and bounds of the parts are the metric's.
    Optional: `better_of_parts`, if it differs from `better`; `dead_below`, the value below which a part counts as dead:
    then the generation from which a part stays dead is reported.
    """

    def parts(self, info: Info) -> tuple[str, ...]:
        """The names of all parts."""
        ...

    def score_parts(self, evaluation: Evaluation) -> Mapping[str, float | Tensor]:
        """A float per part; in an ensemble tensors of shape (S,). nan for a part without a value."""
        ...

    def sum_up(self, parts: Mapping[str, float]) -> float:
        """The score of one seed, from the values of its parts."""
        ...


@runtime_checkable
class FeatureMap(Protocol):
    """A map from images to vectors, a frozen config object. `network` is fitted once and kept in the store.

    Optional: `label`, its name beside figures; `dimensions(info)`, the length of its vectors.
    """

    version: ClassVar[int]

    def describe(self) -> dict[str, Any]: ...

    def check(self, info: Info) -> None:
        """Raise ValueError when this data cannot be mapped; the message says what to change."""
        ...

    def network(self) -> tuple[ModelFamily, Any] | None:
        """The family to fit to the labelled real rows and its training settings (families.training.Train), or None."""
        ...

    def features(self, model: nn.Module | None, images: Tensor) -> Tensor:
        """uint8 (n, C, H, W) -> float32 (n, F) on the CPU."""
        ...


@runtime_checkable
class WeightedMap(FeatureMap, Protocol):
    """A feature map whose network is read from a file."""

    def weights(self, folder: Path) -> WeightsFile:
        """Find and check the file, in the data folder or elsewhere, before anything is fitted. Its code is not run,
        since recipes are also checked without being run.

        Raises MissingError with the file, the folders that were searched, how to get it, and other feature maps.
        """
        ...

    def load(self, weights: WeightsFile) -> nn.Module:
        """The network on the CPU, in eval mode: the argument `model` of `features`."""
        ...


@runtime_checkable
class UntriedMap(WeightedMap, Protocol):
    """A feature map whose file is unknown code, such as TorchScript: no check may run it."""

    def try_out(self, weights: WeightsFile) -> None:
        """Run the network once, when a run begins and before anything is fitted, and set `weights.dimensions`.

        Raises MissingError when it returns no features.
        """
        ...


@runtime_checkable
class ClassifyingMap(FeatureMap, Protocol):
    """A feature map that also classifies images."""

    own_classes: ClassVar[bool]  # True: its classes are the data's labels

    def classified(self, model: nn.Module | None, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (n, C, H, W) -> features, and float32 (n, classes) probabilities whose rows sum to 1, in one pass."""
        ...


ENOUGH = 10_000  # rows on either side from which the bias of a FID is relatively small
ROWS_ARE: Mapping[Which, str] = {
    "samples": "samples",
    "outputs": "outputs for held-out rows",
    "real": "real rows",
    "held_out": "held-out rows",
}


def count_of(which: Which, info: Info, samples: int) -> int:
    """The number of rows of a kind."""
    return {"samples": samples, "outputs": info.held_out, "real": info.rows, "held_out": info.held_out}[which]


def note(counts: Mapping[Which, int], space: FeatureSpace | None, used: int | None = None) -> str:
    """ "5,000 samples against 10,000 of 60,000 real rows; inception 6726825d"; at most `used` rows of either side."""
    sides = [
        f"{n:,} {ROWS_ARE[which]}" if used is None or n <= used else f"{used:,} of {n:,} {ROWS_ARE[which]}"
        for which, n in counts.items()
    ]
    return " against ".join(sides) + (f"; {space.label}" if space else "")


def biased(counts: Mapping[Which, int]) -> str:
    """The warning for a biased estimate from these numbers of rows; "" if they are enough."""
    few = [ROWS_ARE[which] for which, n in counts.items() if n < ENOUGH]
    return f"biased: fewer than {ENOUGH:,} {' and '.join(few)}" if few else ""


def ratio_influences(values: Tensor, weights: Tensor | None = None, slope: float = 1.0) -> Tensor:
    """Influences on f(sum of values / sum of weights), where f has this slope at the ratio: (n,) float64, with sum 0.

    A score over n rows drawn from many is approximately its expected value plus the mean of n independent influences,
    so its standard error is s / sqrt(n), s their standard deviation (Hampel 1974; infinitesimal jackknife, Efron 1982,
    ch. 6). For a mean these are the deviations from it, for a ratio those of its linearisation (Cochran 1977, ch. 6).

    `values` and `weights` are (n,); without weights the influences are those on the mean.
    """
    values = values.double()
    if weights is None:
        return slope * (values - values.mean())
    weights = weights.double()
    ratio = values.sum() / weights.sum()
    influences: Tensor = slope * (values - ratio * weights) / weights.mean()
    return influences
