"""A small image classifier, used by metrics of features and classes. It cannot generate."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, NamedTuple

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import Conditions, Inputs, Rows

SMALLEST = 8  # pixels per side: one halving leaves the 4 x 4 map that the features are read from


class ClassifierPrediction(NamedTuple):
    """The network's outputs for n images, float32."""

    logits: Tensor  # (n, classes)
    features: Tensor  # (n, features), the last hidden layer: mean 0 and mean square 1 over the features of a row


class ClassifierModel(nn.Module):
    """3x3 convolutions that halve the image until neither side exceeds 4 pixels, then one hidden layer.

    GroupNorm instead of batch statistics, so that an image's features do not depend on the other rows of its batch. The
    hidden layer is normalised, so that distances mean the same for every fit: x.y / F is a correlation.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, width: int, features: int) -> None:
        super().__init__()
        channels, height, length = shape
        layers: list[nn.Module] = [_block(channels, width, stride=1)]
        channels = width
        while max(height, length) > 4:
            wider = min(2 * channels, 4 * width)
            layers.append(_block(channels, wider, stride=2))
            channels, height, length = wider, math.ceil(height / 2), math.ceil(length / 2)
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.hidden = nn.Linear(channels * height * length, features)
        self.head = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> ClassifierPrediction:
        """float32 (n, C, H, W) in [-1, 1] -> logits and features."""
        hidden = self.hidden(self.body(images))
        features = F.layer_norm(hidden, hidden.shape[1:])
        return ClassifierPrediction(self.head(features).float(), features.float())


def _block(inputs: int, outputs: int, stride: int) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(4, outputs), nn.ReLU())


class Classifier(Component):
    """A convolutional network for labelled images of any number of channels, 8 x 8 pixels or larger."""

    width: Annotated[int, Field(gt=0, multiple_of=4)] = 16
    """Channels of the first layer; later ones have up to 4 times as many."""
    features: Annotated[int, Field(ge=2)] = 64
    """Units of the last hidden layer."""

    kinds: ClassVar[tuple[str, ...]] = ("images",)
    columns: ClassVar[tuple[str, ...]] = ("image", "label")
    terms: ClassVar[tuple[str, ...]] = ()
    only_for_metrics: ClassVar[bool] = True

    def check(self, info: Info) -> None:
        if info.kind != "images":
            raise ValueError(f"the classifier takes images, found data of kind {info.kind!r}")
        if info.classes < 2:
            problem = "one class only" if info.classes == 1 else "no labels"
            raise ValueError(f"the classifier is fitted to labelled images, but this data has {problem}")
        height, length = info.shape("image")[-2:]
        if min(height, length) < SMALLEST:
            raise ValueError(
                f"the classifier takes images of at least {SMALLEST}x{SMALLEST} pixels, found {height}x{length}: "
                f"resize or pad them (`data: {{size: {SMALLEST}}}`)"
            )

    def build(self, info: Info) -> nn.Module:
        return ClassifierModel(info.shape("image"), info.classes, self.width, self.features)

    def corrupt(self, rows: Rows, draws: Draws) -> Inputs:
        """Intensities 0..255 -> [-1, 1]; nothing is random."""
        images = rows["image"]
        return Inputs({"x": scaled(images), "label": rows["label"].long()}, count=len(images))

    def predict(self, model: nn.Module, inputs: Inputs) -> ClassifierPrediction:
        prediction: ClassifierPrediction = model(inputs["x"])
        return prediction

    def loss(self, prediction: ClassifierPrediction, inputs: Inputs) -> Tensor:
        """Cross entropy in nats, summed over rows."""
        return self.row_losses(prediction, inputs).sum()

    def row_losses(self, prediction: ClassifierPrediction, inputs: Inputs) -> Tensor:
        """The loss of every row: (n,)."""
        return F.cross_entropy(prediction.logits, inputs["label"], reduction="none")

    def distillation(
        self, student: ClassifierPrediction, teacher: ClassifierPrediction, inputs: Inputs
    ) -> dict[str, Tensor]:
        """There are no terms."""
        return {}

    def sample(self, model: nn.Module, conditions: Conditions, draws: Draws) -> dict[str, Tensor]:
        """Raises ValueError: a classifier cannot generate."""
        raise ValueError("a classifier cannot be sampled, it is for metrics; use a generative model, for instance vae")


def scaled(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1
