"""Variational autoencoders. The KD paper's has two linear layers with a ReLU in between, on each side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import Conditions, Inputs, Rows, intensities
from collapse_sim.families.labels import LABEL, check_labels, one_hot


class VAEModel(nn.Module):
    """Images of D = C H W pixels, flattened, <-> latents. With `classes`, both networks get the label, too."""

    def __init__(self, shape: tuple[int, ...], encoder: nn.Module, decoder: nn.Module, classes: int = 0) -> None:
        """`encoder`: (n, D + classes) -> (n, 2 latent), means then log variances; `decoder`: (n, latent + classes) ->
        (n, D). The last `classes` numbers of their inputs are the label, one-hot."""
        super().__init__()
        self.shape, self.classes = shape, classes
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, D) pixel values and the labels (n,) of a conditional model -> mean and log variance, (n, latent) each."""
        mean, log_variance = self.encoder(self._with_label(x, label)).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """(n, latent) and the labels (n,) of a conditional model -> (n, D)."""
        decoded: Tensor = self.decoder(self._with_label(z, label))
        return decoded

    def _with_label(self, values: Tensor, label: Tensor | None) -> Tensor:
        return torch.cat([values, one_hot(label, self.classes)], 1) if self.classes else values


class VAEPrediction(NamedTuple):
    """The inputs of the losses, float32."""

    decoded: Tensor  # (n, D): logits of the intensities; under `output_activation: linear` the pixel values themselves
    mean: Tensor  # (n, latent)
    log_variance: Tensor  # (n, latent)


class Standardization(BaseModel):
    """Pixel values as (intensity - mean) / std, the same for all channels. MNIST's training images of 28x28 pixels:
    .1307 and .3081."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    mean: float
    """Mean of intensities in [0, 1], which is subtracted."""
    std: Annotated[float, Field(gt=0.0)]
    """Standard deviation of intensities in [0, 1], by which the difference is divided."""


class VAEFamily(Component):
    """Everything that VAEs share except the two networks. Losses are per pixel (divided by C H W), summed over rows."""

    latent: Annotated[int, Field(gt=0)] = 20
    """Dimensions of the latent space."""
    reconstruction: Literal["bce", "mse"] = "bce"
    """Reconstruction loss. bce: nats, for grey pixels at least their entropy; mse: squared error."""
    output_activation: Literal["sigmoid", "linear"] = "sigmoid"
    """Output activation of the decoder; linear: only with mse."""
    standardize: Standardization | None = None
    """Standardise pixel values, such as {mean: 0.1307, std: 0.3081}; only with output_activation: linear."""
    kl_weight: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the KL term. bce: 1 is the negative ELBO; mse: 2 sigma^2 of a Gaussian ELBO."""
    kd_kl: bool = False
    """Whether the distillation term `output` also contains kl_weight x KL, as in the KD paper's equation."""
    conditional: bool = False
    """Whether both networks are given the label of each row, one-hot (Sohn et al. 2015); samples are then generated for
    the labels of real rows."""

    version: ClassVar[int] = 2
    kinds: ClassVar[tuple[str, ...]] = ("images",)
    terms: ClassVar[tuple[str, ...]] = ("output", "mean", "variance")
    stacks: ClassVar[bool] = True
    stacks_sampling: ClassVar[bool] = True
    from_latents: ClassVar[bool] = True
    added: ClassVar[dict[str, Any]] = {"conditional": False}
    reuses_conditions: ClassVar[bool] = True

    @model_validator(mode="after")
    def _outputs_fit(self) -> VAEFamily:
        if self.reconstruction == "bce" and self.output_activation == "linear":
            raise ValueError(
                "`output_activation: linear` gives values outside of [0, 1], which `reconstruction: bce` cannot "
                "compare: set `reconstruction: mse`, or `output_activation: sigmoid`"
            )
        if self.standardize is not None and self.output_activation == "sigmoid":
            raise ValueError(
                "`standardize` gives pixel values outside of [0, 1], which `output_activation: sigmoid` never reaches: "
                "set `output_activation: linear` and `reconstruction: mse`, or remove `standardize`"
            )
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The image, and the label if the model is conditional."""
        return ("image", *self.conditions)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The label."""
        return (LABEL,) if self.conditional else ()

    def check(self, info: Info) -> None:
        """Accepts any images. Raises ValueError for a conditional model of images without labels."""
        if self.conditional:
            check_labels(info)

    @property
    def loss_unit(self) -> str:
        if self.reconstruction == "bce":
            return "nats per pixel"
        return "squared standardised intensity per pixel" if self.standardize else "squared intensity per pixel"

    @property
    def regularised(self) -> tuple[str, ...]:
        """Terms with a part that pulls the student towards the prior instead of the teacher (families.base)."""
        return ("output",) if self.kd_kl else ()

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        images = rows["image"]
        given = {name: rows[name].long() for name in self.conditions}
        return Inputs(
            {"x": self._values(images), "eps": draws.normal(len(images), self.latent), **given},
            count=len(images),
        )

    def predict(self, model: nn.Module, inputs: Inputs) -> VAEPrediction:
        assert isinstance(model, VAEModel)
        label = inputs.tensors.get(LABEL)
        mean, log_variance = model.encode(inputs["x"], label)
        mean, log_variance = mean.float(), log_variance.float()
        z = mean + (0.5 * log_variance).exp() * inputs["eps"]  # z = mu + sigma eps (Kingma & Welling 2014)
        return VAEPrediction(model.decode(z, label).float(), mean, log_variance)

    def row_losses(self, prediction: VAEPrediction, inputs: Inputs) -> Tensor:
        """Reconstruction + kl_weight x KL(q(z|x) || N(0, I)), both divided by the number of pixels: (n,)."""
        return self._reconstruction(prediction.decoded, inputs["x"]) + self._weighted_kl(prediction)

    def loss(self, prediction: VAEPrediction, inputs: Inputs) -> Tensor:
        return self.row_losses(prediction, inputs).sum()

    def distillation(self, student: VAEPrediction, teacher: VAEPrediction, inputs: Inputs) -> dict[str, Tensor]:
        """Table 1 of the KD paper. `output`: L_VAE(Ys, Yt), the reconstruction loss against the teacher's output, under
        `kd_kl` with the student's own KL term. `mean` and `variance`: squared error between the encoders' outputs,
        averaged over latent dimensions."""
        output = self._reconstruction(student.decoded, self._activated(teacher.decoded))
        if self.kd_kl:
            output = output + self._weighted_kl(student)
        return {
            "output": output.sum(),
            "mean": (student.mean - teacher.mean).square().mean(1).sum(),
            "variance": (student.log_variance.exp() - teacher.log_variance.exp()).square().mean(1).sum(),
        }

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        """The decoder's mean images of z ~ N(0, I), as intensities, clipped and rounded to uint8."""
        assert isinstance(model, VAEModel)
        z, given = draws.normal(conditions.rows, self.latent), {n: conditions.columns[n] for n in self.conditions}
        x = self._activated(model.decode(z, given.get(LABEL)).float())
        if self.standardize is not None:
            x = x * self.standardize.std + self.standardize.mean
        return {"image": intensities((x * 255).reshape(len(x), *model.shape)), **given}

    def encode(self, model: nn.Module, rows: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Posterior means and variances of uint8 images, (n, latent) each."""
        assert isinstance(model, VAEModel)
        mean, log_variance = model.encode(self._values(rows["image"]), rows.get(LABEL))
        return mean.float(), log_variance.float().exp()

    def _values(self, images: Tensor) -> Tensor:
        """uint8 images (n, C, H, W) -> the networks' inputs (n, D): intensities in [0, 1], or standardised."""
        x = images.flatten(1).float() / 255
        return x if self.standardize is None else (x - self.standardize.mean) / self.standardize.std

    def _activated(self, decoded: Tensor) -> Tensor:
        return decoded.sigmoid() if self.output_activation == "sigmoid" else decoded

    def _reconstruction(self, decoded: Tensor, target: Tensor) -> Tensor:
        """The mean over each row's pixels, (n,)."""
        if self.reconstruction == "bce":
            return F.binary_cross_entropy_with_logits(decoded, target, reduction="none").mean(1)
        return (self._activated(decoded) - target).square().mean(1)

    def _weighted_kl(self, prediction: VAEPrediction) -> Tensor:
        """kl_weight x KL(q(z|x) || N(0, I)) in nats per pixel, (n,)."""
        mean, log_variance = prediction.mean, prediction.log_variance
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        return self.kl_weight * kl / prediction.decoded.shape[1]


class VAE(VAEFamily):
    """Fully connected VAE on images of any size; about 2 C H W x hidden parameters. Losses are per pixel."""

    hidden: Annotated[int, Field(gt=0)] = 420
    """Width of both hidden layers."""

    def build(self, info: Info) -> nn.Module:
        shape, classes = info.shape("image"), info.classes if self.conditional else 0
        pixels, hidden, latent = math.prod(shape), self.hidden, self.latent
        return VAEModel(
            shape,
            encoder=nn.Sequential(nn.Linear(pixels + classes, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent)),
            decoder=nn.Sequential(nn.Linear(latent + classes, hidden), nn.ReLU(), nn.Linear(hidden, pixels)),
            classes=classes,
        )
