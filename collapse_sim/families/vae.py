"""Variational autoencoders; the KD paper's has two linear layers with a ReLU between, on each side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from collapse_sim.component import Component
from collapse_sim.data.base import Info
from collapse_sim.families.base import Conditions, Inputs, Rows, intensities
from collapse_sim.randomness import Draws


class VAEModel(nn.Module):
    """Images of D = C H W pixels, flattened, <-> latents."""

    def __init__(self, shape: tuple[int, ...], encoder: nn.Module, decoder: nn.Module) -> None:
        """`encoder`: (n, D) -> (n, 2 latent), means then log variances; `decoder`: (n, latent) -> (n, D) logits."""
        super().__init__()
        self.shape = shape
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, D) intensities in [0, 1] -> mean and log variance, (n, latent) each."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance


class VAEPrediction(NamedTuple):
    """What the losses look at, float32."""

    logits: Tensor  # (n, D): sigmoid gives the intensities
    mean: Tensor  # (n, latent)
    log_variance: Tensor  # (n, latent)


class VAEFamily(Component):
    """What all VAEs share: all but the two networks. Losses are per pixel (divided by C H W), summed over rows."""

    latent: Annotated[int, Field(gt=0)] = 20  # dimensions
    reconstruction: Literal["bce", "mse"] = "bce"  # nats, or squared intensity
    kl_weight: Annotated[float, Field(ge=0.0)] = 1.0  # 1 with bce: the negative ELBO; mse: 2 sigma^2 of a Gaussian ELBO

    kinds: ClassVar[tuple[str, ...]] = ("images",)
    columns: ClassVar[tuple[str, ...]] = ("image",)
    terms: ClassVar[tuple[str, ...]] = ("output", "mean", "variance")

    @property
    def loss_unit(self) -> str:
        return "nats a pixel" if self.reconstruction == "bce" else "squared intensity a pixel"

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        images = rows["image"]
        x = images.flatten(1).float() / 255
        return Inputs({"x": x, "eps": draws.normal(len(images), self.latent)}, count=len(images))

    def predict(self, model: nn.Module, inputs: Inputs) -> VAEPrediction:
        assert isinstance(model, VAEModel)
        mean, log_variance = model.encode(inputs["x"])
        mean, log_variance = mean.float(), log_variance.float()
        z = mean + (0.5 * log_variance).exp() * inputs["eps"]  # z = mu + sigma eps (Kingma & Welling 2014)
        return VAEPrediction(model.decoder(z).float(), mean, log_variance)

    def loss(self, prediction: VAEPrediction, inputs: Inputs) -> Tensor:
        """Reconstruction + kl_weight x KL(q(z|x) || N(0, I)), both divided by the number of pixels."""
        x, mean, log_variance = inputs["x"], prediction.mean, prediction.log_variance
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return self._reconstruction(prediction.logits, x) + self.kl_weight * kl / x.shape[1]

    def distillation(self, student: VAEPrediction, teacher: VAEPrediction, inputs: Inputs) -> dict[str, Tensor]:
        """Table 1 of the KD paper: `output` L_VAE(Ys, Yt), the reconstruction loss against the teacher's output;
        `mean` and `variance`: squared error between the encoders' outputs, averaged over latent dimensions."""
        return {
            "output": self._reconstruction(student.logits, teacher.logits.sigmoid()),
            "mean": (student.mean - teacher.mean).square().mean(1).sum(),
            "variance": (student.log_variance.exp() - teacher.log_variance.exp()).square().mean(1).sum(),
        }

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        """The decoder's mean images of z ~ N(0, I), rounded to uint8."""
        assert isinstance(model, VAEModel)
        x = model.decoder(draws.normal(conditions.rows, self.latent)).float().sigmoid()
        return {"image": intensities((x * 255).unflatten(1, model.shape))}

    def encode(self, model: nn.Module, rows: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Posterior means and variances, (n, latent) each, of uint8 images."""
        assert isinstance(model, VAEModel)
        mean, log_variance = model.encode(rows["image"].flatten(1).float() / 255)
        return mean.float(), log_variance.float().exp()

    def _reconstruction(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.reconstruction == "bce":
            total = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        else:
            total = F.mse_loss(logits.sigmoid(), target, reduction="sum")
        return total / target.shape[1]


class VAE(VAEFamily):
    """Fully connected VAE on images of any size; about 2 C H W x hidden parameters. Losses are per pixel."""

    hidden: Annotated[int, Field(gt=0)] = 420  # width of both hidden layers

    def check(self, info: Info) -> None:
        """Any images fit."""

    def build(self, info: Info) -> nn.Module:
        shape = info.shape("image")
        pixels = math.prod(shape)
        return VAEModel(
            shape,
            encoder=nn.Sequential(nn.Linear(pixels, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 2 * self.latent)),
            decoder=nn.Sequential(nn.Linear(self.latent, self.hidden), nn.ReLU(), nn.Linear(self.hidden, pixels)),
        )
