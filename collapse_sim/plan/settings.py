"""What a recipe says once it is read and resolved. recipe/loader.py makes it from YAML; nothing here touches files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from collapse_sim.core.component import Component
from collapse_sim.data.base import Data
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.elsewhere import Elsewhere
from collapse_sim.families.training import Train
from collapse_sim.metrics.base import Metric
from collapse_sim.plan.strategies import Strategy
from collapse_sim.remedies.base import Curation, Guidance, Merge, Remedy, Weighting

Protocol = Literal["updates", "epochs", "converged"]
Keep = Literal["all", "last", "none-but-generation-0"]  # of which generations the store keeps weights, or rows
Criterion = Literal["mse", "cosine", "kl"]
LAYER = "layer "  # with the path of a module: the name of the distillation term of its output


class Sampling(Component):
    """How a generation's samples are drawn: in shards, each with a seed of its own, so that a killed run resumes."""

    shard: Annotated[int, Field(gt=0)] = 1000
    """Rows drawn at a time."""


class Teacher(Component):
    """Distillation: loss + sum of weights x terms, the teacher frozen (L_SD = L_M + lambda L of the KD paper).

    `generation` 0 is the model fitted to real data; "previous" is the model the samples came from; "ema" is the moving
    average of the weights of all earlier fits, a mean teacher (Tarvainen & Valpola 2017) over generations. Besides its
    family's terms, networks have a term "layer PATH" for the output of every layer (FitNets, Romero et al. 2015), by
    the path of its module: {output: 0.5, "layer encoder.2": 1.0}. Terms count all rows and tokens equally, whatever the
    weighting.
    """

    generation: Literal["previous", "ema"] | int = 0
    """The generation that teaches: 0, previous, or ema."""
    weights: dict[str, Annotated[float, Field(ge=0.0)]]
    """The weight of each distillation term of the family, or "layer PATH"; a term that is not named has weight 0."""
    criterion: Criterion = "mse"
    """How outputs of layers are compared: mse, cosine (1 - cos), or kl (of their softmax, in nats)."""
    rate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """ema: the weight of the newest fit; that of the average so far is 1 - rate."""
    model: dict[str, Any] | None = None
    """generation 0: settings of the teacher's own model, laid over the arm's, such as {hidden: 800}: it is fitted to
    the same rows. Outputs of layers of other sizes are compared through a learned linear map."""
    rows: Annotated[int, Field(gt=0)] | None = None
    """generation 0: how many of its real rows the teacher is fitted to, the first ones, in as many updates; null: all,
    so that the teacher is generation 0 itself."""
    untrained: bool = False
    """generation 0: the teacher is its network before the first update. It knows nothing of the data: a control that
    shows what soft targets do by themselves."""

    @property
    def own_fit(self) -> tuple[str, ...]:
        """The settings that make the teacher a fit of its own, which belongs to no generation."""
        settings = {"model": self.model is not None, "rows": self.rows is not None, "untrained": self.untrained}
        return tuple(name for name, given in settings.items() if given)

    @property
    def active(self) -> bool:
        """False when all weights are 0: the teacher then changes nothing."""
        return any(weight > 0 for weight in self.weights.values())

    def generation_for(self, k: int) -> int:
        """The number of the generation that teaches generation k; of an average, its newest one."""
        return self.generation if isinstance(self.generation, int) else k - 1


class GenerationZero(Component):
    """Generation 0 from outside, instead of a fit to the real rows."""

    model: Annotated[str, Field(min_length=1)]
    """A folder that `collapse-sim export` wrote, a file of weights, or what the family imports besides."""
    revision: str | None = None
    """A branch, tag or commit of a model on a hub; default: the main branch."""


def layer_path(term: str) -> str | None:
    """The path of the module whose output a distillation term compares; None for a family's own terms."""
    return term.removeprefix(LAYER) if term.startswith(LAYER) else None


def layer_term(path: str) -> str:
    """The name of the distillation term of a module's output."""
    return LAYER + path


class Claim(BaseModel):
    """One statement that `verify` decides; the grammar of `expect` is in recipe/claims.py."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    that: str
    """The statement in words, as a paper would put it."""
    metric: str
    """The metric that it is about, by its shown name."""
    generation: int | Literal["last", "every"] = "last"
    """The generation that it is about."""
    expect: str
    """What decides it, such as `accumulate < replace`."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    """Seeds that decide it; null: all but `tuned_on`."""


class Reference(BaseModel):
    """Published figures of one metric at one generation, which `compare` shows beside ours."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    source: str
    """The publication."""
    metric: str
    """The metric, by its shown name."""
    generation: int | Literal["last"] = "last"
    """The generation that the figures are of."""
    values: dict[str, float]
    """{arm: figure}."""

    def at(self, last: int) -> int:
        """The number of the generation, in a recipe whose last one is `last`."""
        return last if self.generation == "last" else self.generation


@dataclass(frozen=True)
class RowsFrom:
    """Files that generations' rows are read from, in place of samples of their models."""

    paths: str | Mapping[int, str]  # with {generation} and {seed}: of all generations, or of some by their number

    def of(self, k: int) -> str | None:
        """The path of generation k; None: its model generates its samples."""
        return self.paths if isinstance(self.paths, str) else self.paths.get(k)

    def document(self) -> str | dict[str, str]:
        """As in a recipe."""
        return self.paths if isinstance(self.paths, str) else {str(k): path for k, path in self.paths.items()}


@dataclass(frozen=True)
class Arm:
    """One line of the experiment's table: independent axes."""

    name: str
    strategy: Strategy
    teacher: Teacher | None = None
    curation: Curation | None = None
    weighting: Weighting | None = None
    merge: Merge | None = None
    guidance: Guidance | None = None
    init: Literal["fresh", "previous"] = "fresh"
    protocol: Protocol | None = None  # None: updates where lengths are in `steps`, epochs where they are in `epochs`
    model: ModelFamily | None = None  # from here on, None means the recipe's own setting
    train: Train | None = None
    retrain: Train | None = None  # of generations 1 and later
    sampling: Sampling | None = None
    samples: int | None = None
    rows: int | None = None  # real rows that generation 0 is fitted to, out of the data's
    teacher_model: ModelFamily | None = None  # `teacher.model` laid over the arm's model
    rows_from: RowsFrom | None = None  # None: its own models generate all samples

    def remedies(self) -> dict[str, Remedy]:
        """The optional axes that the arm has, by name."""
        axes = {"curation": self.curation, "weighting": self.weighting, "merge": self.merge, "guidance": self.guidance}
        return {name: remedy for name, remedy in axes.items() if remedy is not None}


def _nowhere(path: str) -> str:
    return "recipe"


@dataclass(frozen=True)
class Recipe:
    """A validated experiment: arms x seeds x generations."""

    name: str
    data: Data
    model: ModelFamily
    train: Train | None  # None for closed-form families
    generations: int  # the last generation's number
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    metrics: Mapping[str, Metric]  # by their shown names
    retrain: Train | None = None  # of generations 1 and later; None: as `train`
    generation_0: GenerationZero | None = None  # None: fitted to the real rows
    samples: int | None = None  # rows generated by each generation; None: as many as generation 0's real rows
    sampling: Sampling = field(default_factory=Sampling)
    baseline: str | None = None  # the arm that differences are computed against; None: the first
    show: str | None = None  # the metric in the dashboard's sparklines; None: the first
    claims: tuple[Claim, ...] = ()
    tuned_on: tuple[int, ...] | None = None  # seeds used to choose settings; other seeds decide claims
    references: tuple[Reference, ...] = ()
    keep_weights: Keep = "all"  # housekeeping (plan/keeping.py): in no key
    keep_samples: Keep = "all"
    description: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)  # resolved recipe as plain JSON; loads to the same recipe
    where: Callable[[str], str] = _nowhere  # "train.epochs" -> "recipes/x.yaml:12", for messages

    @property
    def has_model(self) -> bool:
        """False: all samples were generated elsewhere, and nothing is fitted."""
        return not isinstance(self.model, Elsewhere)

    def for_arm(self, arm: Arm) -> Recipe:
        """The recipe with an arm's settings in place of its own. An arm's `train` applies to all its generations unless
        the arm has its own `retrain`."""
        retrain = arm.retrain or (None if arm.train else self.retrain)
        return replace(
            self,
            model=arm.model or self.model,
            train=arm.train or self.train,
            retrain=retrain,
            sampling=arm.sampling or self.sampling,
            samples=arm.samples or self.samples,
        )

    def train_of(self, k: int) -> Train | None:
        """How generation k is fitted; its length is that of a fit to generation 0's rows (protocol.py).

        Ask `for_arm(arm)` for the settings of one arm.
        """
        return self.train if k == 0 else self.retrain or self.train
