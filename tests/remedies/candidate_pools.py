"""Pools of candidates that curations are asked about directly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.toys.gaussian_points import GaussianPoints
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.remedies.base import Pool


def curation_draws(seed: int = 0) -> Draws:
    return Draws((seed,), "curation", 1)


def normal(rows: int, d: int = 1, seed: int = 0) -> Tensor:
    """(rows, d) float64."""
    return torch.randn(rows, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pool_of(columns: dict[str, Tensor], real: dict[str, Tensor], info: Info, **parts: Any) -> Pool:
    """A pool of one draw; losses are not available unless they are given."""

    def no_losses(judge: str) -> Tensor:
        raise AssertionError("losses are not needed")

    rows = len(next(iter(columns.values())))
    given = {"data": None, "family": Gaussian(), "losses": no_losses, "rows": rows} | parts
    return Pool(columns=columns, real=lambda: real, info=info, **given)


def points(x: Tensor, real: Tensor, **parts: Any) -> Pool:
    """A pool of points (N, d) with real rows (n, d)."""
    info = Info(
        "points", {"x": (tuple(x.shape[1:]), "float64")}, len(real), len(real), 10, known_truths=("log_density",)
    )
    return pool_of({"x": x}, {"x": real}, info, data=GaussianPoints(dimensions=x.shape[1]), **parts)


def images(generated: Tensor, real: Tensor, labels: Tensor | None = None, **parts: Any) -> Pool:
    """A pool of images (N, C, H, W) with real rows and their labels."""
    columns: dict[str, Any] = {"image": (tuple(real.shape[1:]), "uint8")}
    classes = 0
    rows = {"image": real}
    if labels is not None:
        columns["label"], rows["label"], classes = ((), "int64"), labels, int(labels.max()) + 1
    info = Info("images", columns, len(real), len(real), 10, classes=classes)
    return pool_of({"image": generated}, rows, info, **parts)


def evaluated_by(model: torch.nn.Module, batch: int = 16) -> Any:
    """`Pool.evaluated` of one network for both judges, `batch` rows at a time."""

    def evaluated(judge: str, rows: Any, read: Any) -> Tensor:
        n = len(next(iter(rows.values())))
        pieces = []
        with torch.no_grad():
            for i, first in enumerate(range(0, n, batch)):
                piece = {name: column[first : first + batch] for name, column in rows.items()}
                pieces.append(read(model, piece, Draws((0,), f"evaluated/{judge}", 1, i)))
        return torch.cat(pieces)

    return evaluated
