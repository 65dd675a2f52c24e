"""Shared code of the families that generate from noise: rows to float32 and back, losses, terms, samples."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import Conditions, Inputs, Rows, intensities
from collapse_sim.families.labels import LABEL, NO_LABEL, check_labels
from collapse_sim.families.network import Denoiser, Network


class Denoised(NamedTuple):
    """A prediction, float32."""

    output: Tensor  # as x: (n, C, H, W) or (n, d)
    encoder: Tensor  # output of the network's last down block (n, c, h, w), or of its middle hidden layer (n, c)


class GuidedDenoiser(Denoiser):
    """Two networks as one: (1 + w) x the first's output - w x the second's."""

    def __init__(self, model: Denoiser, auxiliary: nn.Module, w: float) -> None:
        super().__init__(model.shape, model.classes)
        self.model, self.auxiliary, self.w = model, auxiliary, w

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        output, encoder = self.model(x, t, label)
        other, _ = self.auxiliary(x, t, label)
        return (1 + self.w) * output.float() - self.w * other.float(), encoder


class GivenLabels(Denoiser):
    """A conditional network with the labels of the rows, (n,), as a network of x and t alone.

    With a scale s other than 1, its output is unconditional + s (conditional - unconditional): classifier-free guidance
    (Ho & Salimans 2022, equation 6, with s = 1 + w).
    """

    def __init__(self, model: Denoiser, label: Tensor, scale: float) -> None:
        super().__init__(model.shape)
        self.model, self.label, self.scale = model, label, scale

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        output, encoder = self.model(x, t, self.label)
        if self.scale == 1:
            return output, encoder
        unconditional, _ = self.model(x, t, torch.full_like(self.label, NO_LABEL))
        return self.scale * output.float() + (1 - self.scale) * unconditional.float(), encoder


def rows_to_x(rows: Rows, scale: float) -> Tensor:
    """uint8 images -> [-1, 1]; points -> points / scale. Both float32."""
    return rows["image"].float() / 127.5 - 1 if "image" in rows else rows["x"].float() / scale


def x_to_rows(x: Tensor, scale: float) -> dict[str, Tensor]:
    """The inverse: images (n, C, H, W) are clipped and rounded, points (n, d) become float64."""
    if x.dim() == 4:
        return {"image": intensities((x.float() + 1) * 127.5)}
    return {"x": x.double() * scale}


def per_row(x: Tensor, like: Tensor) -> Tensor:
    """(n,) -> (n, 1, ...) with as many dimensions as `like`, for multiplication with rows."""
    return x.view(-1, *[1] * (like.dim() - 1))


def steps_of_frames(frames: int, steps: int) -> list[int]:
    """The numbers of steps (of `steps`) after which each of `frames` equally spaced frames is taken; the last: all."""
    return [round(steps * i / (frames - 1)) for i in range(frames)] if frames > 1 else [steps]


class Denoising(Component):
    """Base of the families that turn noise into rows with a network of a noisy row and its time."""

    network: Network = Network()
    """The network, a mapping: widths, layers, attention, dropout, or a preset."""
    flip: bool = False
    """Images: mirror each one left to right with probability 1/2 in training."""
    scale: Annotated[float, Field(gt=0.0)] = 1.0
    """Points: divide by this number, so that the network sees about unit variance."""
    conditional: bool = False
    """Whether the network is given the label of each row; samples are then generated for the labels of real rows."""
    label_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """conditional: share of rows in training whose label the network is not given (Ho & Salimans 2022)."""
    guidance_scale: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    """conditional: s of classifier-free guidance, unconditional + s (conditional - unconditional) at every call of the
    sampler. 1: none; other values take twice the network calls. Ho & Salimans (2022) count from 0: s = 1 + w."""

    kinds: ClassVar[tuple[str, ...]] = ("images", "points")
    terms: ClassVar[tuple[str, ...]] = ("output", "encoder")
    sampling: ClassVar[tuple[str, ...]] = ("guidance_scale",)
    added: ClassVar[dict[str, Any]] = {"conditional": False, "label_dropout": 0.1, "guidance_scale": 1.0}
    reuses_conditions: ClassVar[bool] = True
    repeats_calls: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check_label_settings(self) -> Self:
        for name in ("label_dropout", "guidance_scale"):
            value = getattr(self, name)
            if not self.conditional and value != Denoising.added[name]:
                raise ValueError(
                    f"{name}: is for conditional: true, found {value:g} without it; set it, or remove {name}"
                )
        if self.guidance_scale != 1 and self.label_dropout == 0:
            raise ValueError(
                f"guidance_scale: {self.guidance_scale:g} needs a network that was trained on rows without labels, "
                "too; set label_dropout above 0, or guidance_scale: 1"
            )
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the rows, and their label if the model is conditional."""
        return ("image", "x", *self.conditions)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The label."""
        return (LABEL,) if self.conditional else ()

    def check(self, info: Info) -> None:
        """Raises ValueError for settings of another kind of data and for a network that does not fit the rows."""
        if info.kind == "images" and self.scale != 1:
            raise ValueError("scale: is for points, images are always scaled to [-1, 1]; remove it")
        if info.kind != "images" and self.flip:
            raise ValueError(f"flip: is for images, the data is of {info.kind}; remove it")
        if self.conditional:
            check_labels(info)
        self.network.check(info)

    def build(self, info: Info) -> nn.Module:
        return self.network.build(info, conditional=self.conditional)

    def predict(self, model: nn.Module, inputs: Inputs) -> Denoised:
        output, encoder = model(inputs["x"], inputs["t"], inputs.tensors.get(LABEL))
        return Denoised(output.float(), encoder.float())

    def blocks(self, model: nn.Module) -> list[nn.Module]:
        """Those of the UNet (hooks.HasBlocks)."""
        assert isinstance(model, Denoiser)
        return model.blocks()

    @property
    def stacks(self) -> bool:
        """Unless there is dropout, whose draws would be another model's."""
        return self.network.dropout == 0

    @property
    def stacks_sampling(self) -> bool:
        return True

    @property
    def loss_unit(self) -> str:
        return "squared error per value"

    def loss(self, prediction: Denoised, inputs: Inputs) -> Tensor:
        return self.row_losses(prediction, inputs).sum()

    def row_losses(self, prediction: Denoised, inputs: Inputs) -> Tensor:
        """The loss of every row, a mean over its values: (n,)."""
        return self._criterion(prediction.output, inputs["target"])

    def distillation(self, student: Denoised, teacher: Denoised, inputs: Inputs) -> dict[str, Tensor]:
        """KD paper: `output` is the loss against the teacher's output (equation 2), `encoder` the squared error between
        the encoders' outputs. Both are means over a row's values."""
        return {
            "output": self._criterion(student.output, teacher.output).sum(),
            "encoder": mean_square(student.encoder, teacher.encoder).sum(),
        }

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        (x,) = self._states(model, conditions, draws, 1)
        return {**x_to_rows(x, self.scale), **{name: conditions.columns[name] for name in self.conditions}}

    @property
    def guides(self) -> bool:
        return True

    def guided(self, model: nn.Module, auxiliary: nn.Module, w: float) -> nn.Module:
        """Noise, velocity and v are affine in the score at a fixed x_t and t, and the coefficients add up to 1, so that
        combining them is combining scores: (1 + w) s - w s_auxiliary. Clipping of x_0 comes after it."""
        assert isinstance(model, Denoiser)
        return GuidedDenoiser(model, auxiliary, w)

    def trajectory(self, model: nn.Module, conditions: Conditions, frames: int, draws: Draws) -> Tensor:
        """States from noise to samples, (frames, rows, ...): uint8 images or float64 points, equally spaced in time.

        The last frame is what `sample` returns for the same draws.
        """
        states = self._states(model, conditions, draws, frames)
        return torch.stack([next(iter(x_to_rows(x, self.scale).values())) for x in states])

    def _states(self, model: nn.Module, conditions: Conditions, draws: Draws, frames: int) -> list[Tensor]:
        """What `_integrate` makes of noise, for the conditions' labels if the model is conditional."""
        assert isinstance(model, Denoiser)
        noise = draws.normal(conditions.rows, *model.shape)
        if self.conditional:
            model = GivenLabels(model, conditions.columns[LABEL].long(), self.guidance_scale)
        return self._integrate(model, noise, draws, frames)

    @torch.no_grad()
    def encode_noised(self, model: nn.Module, rows: Rows, time: float, draws: Draws) -> Tensor:
        """(n, c): the encoder's output for rows with noise of `time`, from 0 (none) to 1; of images, the maximum of
        each channel over the places. A conditional network is not given the label, which the output would show."""
        x = rows_to_x(rows, self.scale)
        label = torch.full((len(x),), NO_LABEL, device=x.device) if self.conditional else None
        encoder: Tensor = model(*self._noised(x, draws.normal(*x.shape), time), label)[1].float()
        return encoder.flatten(2).amax(2) if encoder.dim() > 2 else encoder

    @abstractmethod
    def _noised(self, x: Tensor, noise: Tensor, time: float) -> tuple[Tensor, Tensor]:
        """What the network reads of rows x at a time from 0 (the rows) to 1 (noise): x_t, and its own times (n,)."""

    @abstractmethod
    def _integrate(self, model: nn.Module, noise: Tensor, draws: Draws, frames: int) -> list[Tensor]:
        """`frames` states between noise and rows, equally spaced in time; the last one is the sample."""

    def _criterion(self, output: Tensor, target: Tensor) -> Tensor:
        """The distance of each row from its target: (n,)."""
        return mean_square(output, target)

    def _labels(self, rows: Rows, draws: Draws) -> dict[str, Tensor]:
        """Of a conditional model, the label of every row that the network is given, (n,): NO_LABEL with the probability
        `label_dropout`. `corrupt` draws it last, so that noise and times are those of the unconditional model."""
        if not self.conditional:
            return {}
        label = rows[LABEL].long()
        if self.label_dropout:
            label = label.masked_fill(draws.uniform(len(label)) < self.label_dropout, NO_LABEL)
        return {LABEL: label}

    def _flipped(self, x: Tensor, draws: Draws) -> Tensor:
        """Rows with `flip` applied."""
        if not self.flip:
            return x
        return torch.where(per_row(draws.uniform(len(x)) < 0.5, x), x.flip(-1), x)


def mean_square(output: Tensor, target: Tensor) -> Tensor:
    """The squared error of every row, a mean over its values: (n,)."""
    return F.mse_loss(output, target, reduction="none").flatten(1).mean(1)
