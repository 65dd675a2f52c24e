"""How a model is fitted: settings, lengths, and the schedule of the learning rate."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from collapse_sim.core.component import Component

Positive = Annotated[float, Field(gt=0.0)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


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


def updates_per_epoch(train: Train, rows: int) -> int:
    """An epoch ends with a smaller batch when the rows don't divide."""
    return math.ceil(rows / train.batch_size)


@dataclass(frozen=True)
class FitLength:
    """How long a fit is, in optimiser updates."""

    steps: int
    steps_per_epoch: int
    evaluate_every: int  # 0: never

    @classmethod
    def of(cls, train: Train, rows: int) -> FitLength:
        """Of settings whose length may still be in epochs of these rows."""
        per_epoch = updates_per_epoch(train, rows)
        words = train.evaluate.split()
        every = {"never": 0, "every epoch": per_epoch}.get(train.evaluate)
        steps = train.steps or max(1, round((train.epochs or 0) * per_epoch))
        return cls(steps, per_epoch, int(words[1]) if every is None else every)


def learning_rate(train: Train, step: int, steps: int) -> float:
    """The rate of update `step` (from 0) of `steps`: linear warm-up from zero, then constant, half a cosine wave
    to zero, or a line to zero (as transformers' get_linear_schedule_with_warmup)."""
    warmup = train.warmup_steps or round(train.warmup_ratio * steps)
    if step < warmup:
        return train.learning_rate * step / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    left = {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * progress)), "linear": 1 - progress}
    return train.learning_rate * left[train.schedule]
