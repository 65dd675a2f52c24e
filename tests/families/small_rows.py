"""Small data sets of every kind that families are fitted to."""

from __future__ import annotations

import torch

from collapse_sim.data.base import Info

IMAGES = Info("images", {"image": ((1, 8, 8), "uint8"), "label": ((), "int64")}, 64, 64, 16, classes=10)
COLOUR = Info("images", {"image": ((3, 12, 10), "uint8")}, 64, 64, 16)
POINTS = Info("points", {"x": ((3,), "float64")}, 50, 50, 10)
REGRESSION = Info("regression", {"x": ((3,), "float64"), "y": ((), "float64")}, 50, 50, 10, constants={"noise": 1.0})


def image_rows(info):
    generator = torch.Generator().manual_seed(0)
    shape = info.shape("image")
    rows = {"image": torch.randint(0, 256, (40, *shape), generator=generator, dtype=torch.uint8)}
    if info.classes:
        rows["label"] = torch.randint(0, info.classes, (40,), generator=generator)
    return rows


def regression(rows):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, rows, 3, dtype=torch.float64, generator=generator)
    return {"x": x, "y": torch.randn(3, rows, dtype=torch.float64, generator=generator)}
