"""Networks for tests: Inception with random weights, and TorchScript files of a few numbers."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


def random_inception(path: Path) -> None:
    """Weights that torch-fidelity's Inception reads, with activations of about 1 and unsure, uneven classes."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unloaded(FeatureExtractorInceptionV3):
        def load_state_dict(self, state: object) -> None:
            """Keep what the layers begin with."""

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    state = Unloaded("inception", ["2048"], feature_extractor_weights_path=nothing).state_dict()
    generator = torch.Generator().manual_seed(0)
    for name, tensor in state.items():
        if tensor.ndim > 1:
            scale = (20 if name == "fc.weight" else 1) * (2 / tensor[0].numel()) ** 0.5
            state[name] = torch.randn(tensor.shape, generator=generator) * scale
    torch.save(state, path)


class Small(nn.Module):
    """(n, 3, s, s) -> (n, 5): the means of the channels, the first intensity, and s."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, images: Tensor) -> Tensor:
        sides = torch.full_like(images[:, 0, 0, :1], images.shape[2])
        return torch.cat([images.mean((2, 3)) * self.factor, images[:, 0, 0, :1], sides], 1)


class Maps(nn.Module):
    """(n, 3, s, s) -> (n, 3, 1, 1): no vectors."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3), keepdim=True)


class Picky(nn.Module):
    """Takes 32 x 32 only."""

    def forward(self, images: Tensor) -> Tensor:
        return images.reshape(images.shape[0], 3 * 32 * 32)


def save_script(network: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have another format
        torch.jit.script(network).save(str(path))
    return path
