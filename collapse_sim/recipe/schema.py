"""What a recipe says, once it is read and resolved. `load.py` makes a Recipe from YAML; nothing here touches files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from collapse_sim.component import Component
from collapse_sim.data.base import Data
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import Metric
from collapse_sim.strategies import Strategy

Positive = Annotated[float, Field(gt=0.0)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
Protocol = Literal["updates", "epochs", "converged"]


class Train(Component):
    """How a model is fitted. Exactly one of `epochs` and `steps`. Closed-form families take no `train:`.

    What becomes of that length in generations with more rows is the arm's `protocol`.
    """

    epochs: Positive | None = None  # passes over the rows
    steps: Annotated[int, Field(gt=0)] | None = None  # optimiser updates
    batch_size: Annotated[int, Field(gt=0)] = 128  # rows an update
    accumulate: Annotated[int, Field(gt=0)] = 1  # micro-batches a batch is split into, to save memory
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    decay: Literal["all", "weights"] = "weights"  # what decays: all parameters, or none of norms, biases and embeddings
    betas: tuple[Decay, Decay] = (0.9, 0.999)  # adam, adamw
    momentum: Decay = 0.9  # sgd
    schedule: Literal["constant", "cosine", "linear"] = "constant"  # cosine: half a wave; both to zero at the last step
    warmup_steps: Annotated[int, Field(ge=0)] = 0  # linear, from zero
    warmup_ratio: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # or as a share of the fit's updates, rounded
    clip_norm: Positive | None = None  # of the whole gradient
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None  # decay; the averaged weights are the model
    evaluate: str = "every epoch"  # "every epoch", "every N steps" or "never": validation loss during the fit
    keep: Literal["last", "best"] = "last"  # best: the weights of the evaluation with the least validation loss
    patience: Annotated[int, Field(gt=0)] | None = None  # end after so many evaluations without a lower validation loss
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 on CUDA where it is native, else fp32
    tf32: bool = False  # let float32 matrix products on CUDA use TF32

    @field_validator("evaluate")
    @classmethod
    def _known_cadence(cls, value: str) -> str:
        if value not in ("never", "every epoch") and not re.fullmatch(r"every [1-9]\d* steps", value):
            raise ValueError(f"{value!r} is no cadence; allowed: 'every epoch', 'every N steps', 'never'")
        return value

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if (self.epochs is None) == (self.steps is None):
            found = "neither" if self.epochs is None else "both"
            raise ValueError(f"exactly one of `epochs` and `steps` is needed, found {found}")
        if self.warmup_steps and self.warmup_ratio:
            raise ValueError("`warmup_steps` and `warmup_ratio` say the same thing in two ways: set one of them to 0")
        if self.keep == "best" and self.evaluate == "never":
            raise ValueError("`keep: best` needs evaluations: set `evaluate: every epoch` or `keep: last`")
        if self.patience is not None and self.evaluate == "never":
            raise ValueError("`patience` needs evaluations: set `evaluate: every epoch`, or remove it")
        return self


class Sampling(Component):
    """How a generation's samples are drawn: in shards, each with a seed of its own, so that a killed run resumes."""

    shard: Annotated[int, Field(gt=0)] = 1000  # rows drawn at a time


class Teacher(Component):
    """Distillation: loss + sum of weights x terms, the teacher frozen (L_SD = L_M + lambda L of the KD paper).

    `generation` 0 is the model fitted to real data; "previous" is the model the samples came from.
    """

    generation: Literal["previous"] | int = 0
    weights: dict[str, Annotated[float, Field(ge=0.0)]]

    @property
    def active(self) -> bool:
        """A teacher whose weights are all 0 changes nothing."""
        return any(weight > 0 for weight in self.weights.values())

    def generation_for(self, k: int) -> int:
        """The number of the generation that teaches generation k."""
        return k - 1 if self.generation == "previous" else self.generation


class Claim(BaseModel):
    """One statement that `verify` decides; the grammar of `expect` is in analysis/claims.py."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    that: str  # the statement in words, as a paper would put it
    metric: str
    generation: int | Literal["last", "every"] = "last"
    expect: str
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] | None = None  # that decide it; None: all but `tuned_on`


class Reference(BaseModel):
    """Published figures of one metric at one generation, which `compare` shows beside ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    metric: str
    generation: int | Literal["last"] = "last"
    values: dict[str, float]  # arm -> figure

    def at(self, last: int) -> int:
        """The number of the generation, in a recipe whose last one is `last`."""
        return last if self.generation == "last" else self.generation


@dataclass(frozen=True)
class Arm:
    """One line of the experiment's table: independent axes."""

    name: str
    strategy: Strategy
    teacher: Teacher | None = None
    init: Literal["fresh", "previous"] = "fresh"
    protocol: Protocol | None = None  # None: updates where lengths are in `steps`, epochs where they are in `epochs`
    retrain: Train | None = None  # of generations 1 and later; None: the recipe's


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
    metrics: Mapping[str, Metric]  # by the name they are shown under
    retrain: Train | None = None  # of generations 1 and later; None: as `train`
    samples: int | None = None  # rows generated by each generation; None: as many as generation 0's real rows
    sampling: Sampling = field(default_factory=Sampling)
    baseline: str | None = None  # the arm that differences are taken to; None: the first
    show: str | None = None  # the metric of the dashboard's sparklines; None: the first
    claims: tuple[Claim, ...] = ()
    tuned_on: tuple[int, ...] | None = None  # seeds that settings were chosen on; claims are decided by others
    references: tuple[Reference, ...] = ()
    description: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)  # the resolved recipe as plain JSON; it loads as the same
    where: Callable[[str], str] = _nowhere  # "train.epochs" -> "recipes/x.yaml:12", for messages

    def train_of(self, k: int, arm: Arm) -> Train | None:
        """How generation k of an arm is fitted; its length is that of a fit to generation 0's rows (protocol.py)."""
        return self.train if k == 0 else arm.retrain or self.retrain or self.train
