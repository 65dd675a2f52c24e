"""How a model is fitted: settings, lengths, and the schedule of the learning rate."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from collapse_sim.core.component import Component

Positive = Annotated[float, Field(gt=0.0)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class Train(Component):
    """How a model is fitted. Exactly one of `epochs` and `steps` is needed. Closed-form families take no `train:`.

    The arm's `protocol` determines the length in generations with more rows.
    """

    epochs: Positive | None = None
    """Length of the fit in passes over the rows. Either this or `steps`."""
    steps: Annotated[int, Field(gt=0)] | None = None
    """Length of the fit in optimiser updates. Either this or `epochs`."""
    batch_size: Annotated[int, Field(gt=0)] = 128
    """Rows per update."""
    accumulate: Annotated[int, Field(gt=0)] = 1
    """Micro-batches that a batch is split into, to save memory."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """torch.optim's AdamW, Adam or SGD."""
    learning_rate: Positive = 1e-3
    """Learning rate after the warm-up, at the start of the schedule."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight decay. adamw: decoupled; adam, sgd: added to the gradient."""
    decay: Literal["all", "weights"] = "weights"
    """What decays: all parameters, or `weights`: all except norms, biases and embeddings."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """adam, adamw: decay of the running means of gradients and of their squares."""
    momentum: Decay = 0.9
    """sgd: momentum."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Learning rate after the warm-up; cosine (half a wave) and linear fall to zero at the last update."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Updates in which the learning rate rises linearly from zero."""
    warmup_ratio: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """The warm-up as a share of the fit's updates, rounded. Either this or `warmup_steps`."""
    clip_norm: Positive | None = None
    """Maximum norm of the whole gradient; larger gradients are scaled down. null: no clipping."""
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of an exponential moving average of the weights, which is then the model. null: no average."""
    evaluate: str = "every epoch"
    """When the validation loss is computed during the fit: "every epoch", "every N steps" or "never"."""
    keep: Literal["last", "best"] = "last"
    """Which weights are kept. last: the final ones; best: those of the evaluation with the lowest validation loss."""
    patience: Annotated[int, Field(gt=0)] | None = None
    """The fit ends after this number of evaluations without a lower validation loss. null: it does not end early."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of forward passes. auto: bf16 on a GPU that supports it or a CPU where it is native and faster."""
    tf32: bool = False
    """Whether float32 matrix products on CUDA may use TF32."""

    shard: bool = False
    """With several ranks: whether each holds only a part of every parameter, gradient and optimiser state, for models
    that do not fit one device. One process holds all."""

    not_in_key: ClassVar[tuple[str, ...]] = ("shard",)  # how a fit is computed, like the number of ranks

    @model_serializer(mode="wrap")
    def _without_shard(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys of metrics with a network of their own, and run.json, are those from before `shard` was there."""
        return {name: value for name, value in handler(self).items() if name != "shard" or value}

    @field_validator("evaluate")
    @classmethod
    def _known_cadence(cls, value: str) -> str:
        if value not in ("never", "every epoch") and not re.fullmatch(r"every [1-9]\d* steps", value):
            raise ValueError(f"{value!r} is not valid; allowed: 'every epoch', 'every N steps', 'never'")
        return value

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if (self.epochs is None) == (self.steps is None):
            settings = "neither" if self.epochs is None else "both"
            raise ValueError(f"exactly one of `epochs` and `steps` is needed, found {settings}")
        if self.warmup_steps and self.warmup_ratio:
            raise ValueError("`warmup_steps` and `warmup_ratio` say the same thing in two ways: set one of them to 0")
        if self.keep == "best" and self.evaluate == "never":
            raise ValueError("`keep: best` needs evaluations: set `evaluate: every epoch` or `keep: last`")
        if self.patience is not None and self.evaluate == "never":
            raise ValueError("`patience` needs evaluations: set `evaluate: every epoch`, or remove it")
        return self


class ShortFit(BaseModel):
    """Changes of an arm's `train` for a short fit to a model's own samples. A setting left out is the arm's, except
    that the last weights are kept and no validation loss is computed."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    epochs: Positive | None = None
    """Length in passes over the own samples. Either this or `steps`."""
    steps: Annotated[int, Field(gt=0)] | None = None
    """Length in optimiser updates. Either this or `epochs`."""
    batch_size: Annotated[int, Field(gt=0)] | None = None
    """Rows per update."""
    learning_rate: Positive | None = None
    """Learning rate after the warm-up."""
    schedule: Literal["constant", "cosine", "linear"] | None = None
    """Learning rate after the warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """Updates in which the learning rate rises linearly from zero."""
    weight_decay: Annotated[float, Field(ge=0.0)] | None = None
    """Weight decay."""
    clip_norm: Positive | None = None
    """Maximum norm of the whole gradient."""
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of an exponential moving average of the weights, which is then the model."""

    @model_validator(mode="after")
    def _one_unit(self) -> ShortFit:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("`epochs` and `steps` say the same thing in two ways: remove one of them")
        return self

    def over(self, train: Train) -> Train:
        """These settings laid over an arm's. A length in one unit replaces a length in the other."""
        own = self.model_dump(exclude_none=True)
        settings = train.model_dump() | {"evaluate": "never", "keep": "last", "patience": None} | own
        for unit, other in (("steps", "epochs"), ("epochs", "steps")):
            if unit in own:
                settings[other] = None
        if "warmup_steps" in own:
            settings["warmup_ratio"] = 0.0
        return Train.model_validate(settings)


def updates_per_epoch(train: Train, rows: int) -> int:
    """An epoch ends with a smaller batch when the batch size does not divide the number of rows."""
    return math.ceil(rows / train.batch_size)


@dataclass(frozen=True)
class FitLength:
    """The length of a fit, in optimiser updates."""

    steps: int
    steps_per_epoch: int
    evaluate_every: int  # 0: never

    @classmethod
    def of(cls, train: Train, rows: int) -> FitLength:
        """The length under these settings, which may be in epochs of these rows."""
        per_epoch = updates_per_epoch(train, rows)
        words = train.evaluate.split()
        every = {"never": 0, "every epoch": per_epoch}.get(train.evaluate)
        steps = train.steps if train.steps is not None else max(1, round((train.epochs or 0) * per_epoch))
        return cls(steps, per_epoch, int(words[1]) if every is None else every)


def learning_rate(train: Train, step: int, steps: int) -> float:
    """The rate of update `step` (from 0) of `steps`: linear warm-up from zero, then constant, half a cosine wave
    to zero, or linear to zero (like transformers' get_linear_schedule_with_warmup)."""
    warmup = train.warmup_steps or round(train.warmup_ratio * steps)
    if step < warmup:
        return train.learning_rate * step / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    factors = {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * progress)), "linear": 1 - progress}
    return train.learning_rate * factors[train.schedule]
