"""What the tests of both denoising families use: small data, and a model that knows the truth."""

from __future__ import annotations

import torch

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.network import Denoiser

IMAGES = Info("images", {"image": ((1, 8, 8), "uint8")}, 64, 64, 16)
COLOUR = Info("images", {"image": ((3, 12, 8), "uint8")}, 64, 64, 16)
POINTS = Info("points", {"x": ((2,), "float64")}, 64, 64, 16)
SMALL = {"widths": (8, 16), "layers": 1}
CASES = {"grey": (IMAGES, SMALL), "colour": (COLOUR, SMALL), "points": (POINTS, {"widths": (16, 16, 16)})}


def rows_of(info: Info, count: int = 40) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    if info.kind == "points":
        return {"x": torch.randn(count, 2, generator=generator, dtype=torch.float64) * 2 + 1}
    return {"image": torch.randint(0, 256, (count, *info.shape("image")), generator=generator, dtype=torch.uint8)}


def draws(role: str = "corrupt", seed: int = 0, step: int = 0) -> Draws:
    return Draws((seed,), role, 0, step)


class Oracle(Denoiser):
    """The best possible answer for data from N(mean, std^2), in every coordinate; `answer` gives it from x and t."""

    def __init__(self, shape: tuple[int, ...], answer, classes: int = 0) -> None:
        super().__init__(shape, classes)
        self.answer = answer

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.answer(x, t), x


class LabelledOracle(Oracle):
    """The same for rows of classes; `answer` gives it from x, t and the labels, (n,)."""

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.answer(x, t, label), x
