"""Pools of candidates made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.toys.gaussian_points import GaussianPoints
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.remedies.base import Pool

POINTS = Info("points", {"x": ((1,), "float64")}, rows=4, pool=4, held_out=4, known_truths=("log_density",))


def pool(columns: Mapping[str, Tensor], rows: int | None = None, **others: Any) -> Pool:
    """Candidates of a standard normal's data and a Gaussian, unless `others` say otherwise."""
    n = len(next(iter(columns.values())))
    settings: dict[str, Any] = {
        "data": GaussianPoints(),
        "info": POINTS,
        "family": Gaussian(),
        "real": dict,
        "losses": lambda judge: torch.arange(float(n), dtype=torch.float64),
    }
    return Pool(columns=columns, rows=rows or n, **(settings | others))


def points(*values: float) -> dict[str, Tensor]:
    return {"x": torch.tensor(values, dtype=torch.float64)[:, None]}


def draws(seed: int = 0) -> Draws:
    return Draws((seed,), "curation", 0)
