"""A convolutional variational autoencoder for photographs such as CelebA's and CIFAR-10's."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from collapse_sim.data.base import Info
from collapse_sim.families.vae import VAEFamily, VAEModel

GROUP = 8  # channels that are normalised together


class LabelChannel(nn.Module):
    """Flat pixels and a one-hot label, (n, C H W + classes) -> (n, C + 1, H, W): one learned image for each class."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.shape = shape
        self.image = nn.Linear(classes, math.prod(shape[1:]), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pixels = math.prod(self.shape)
        image, channel = x[:, :pixels], self.image(x[:, pixels:]).to(x.dtype)
        _, height, width = self.shape
        return torch.cat([image, channel], 1).reshape(len(x), -1, height, width)


class ConvVAE(VAEFamily):
    """Convolutional VAE on square images of 1 or 3 channels. Losses are per pixel (divided by C H W).

    The encoder halves the image `depth` times and doubles its channels after each level but the first; the decoder
    mirrors it. Every level is a 4x4 convolution with stride 2, group normalisation and a SiLU. Rows are independent of
    each other, so that micro-batches add up. A conditional encoder gets the label as one more channel, a learned image.
    """

    width: Annotated[int, Field(gt=0, multiple_of=GROUP)] = 32
    """Channels of the first level, a multiple of 8."""
    depth: Annotated[int, Field(gt=0, le=16)] = 4
    """Number of levels; each halves the image."""
    latent: Annotated[int, Field(gt=0)] = 128
    """Dimensions of the latent space."""

    def check(self, info: Info) -> None:
        """Raises ValueError for images that are not square, not divisible by 2^depth, or not of 1 or 3 channels."""
        super().check(info)
        channels, height, width = info.shape("image")
        if channels not in (1, 3):
            raise ValueError(f"conv_vae needs images of 1 or 3 channels, found {channels}")
        if height != width:
            raise ValueError(
                f"conv_vae needs square images, found {height}x{width}: set `data.size`, which makes them square"
            )
        if height % 2**self.depth:
            halvings = (height & -height).bit_length() - 1
            deeper = f"depth: {halvings} or less, or " if halvings else ""
            raise ValueError(
                f"conv_vae halves images depth = {self.depth} times, and {height} pixels are not divisible by "
                f"{2**self.depth}: set {deeper}`data.size` to {-(-height // 2**self.depth) * 2**self.depth}"
            )

    def build(self, info: Info) -> nn.Module:
        channels, size, _ = shape = info.shape("image")
        classes = info.classes if self.conditional else 0
        widths = [self.width * 2**level for level in range(self.depth)]
        end = (widths[-1], size // 2**self.depth, size // 2**self.depth)
        down = [
            _level(nn.Conv2d(before, after, 4, stride=2, padding=1))
            for before, after in zip([channels + bool(classes), *widths[:-1]], widths, strict=True)
        ]
        up = [
            _level(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1))
            for before, after in zip(widths[::-1], [*widths[-2::-1], self.width], strict=True)
        ]
        return VAEModel(
            shape,
            encoder=nn.Sequential(
                LabelChannel(shape, classes) if classes else nn.Unflatten(1, shape),
                *down,
                nn.Flatten(),
                nn.Linear(math.prod(end), 2 * self.latent),
            ),
            decoder=nn.Sequential(
                nn.Linear(self.latent + classes, math.prod(end)),
                nn.Unflatten(1, end),
                *up,
                nn.Conv2d(self.width, channels, 3, padding=1),
                nn.Flatten(),
            ),
            classes=classes,
        )


def _level(convolution: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    channels = convolution.out_channels
    return nn.Sequential(convolution, nn.GroupNorm(channels // GROUP, channels), nn.SiLU())
