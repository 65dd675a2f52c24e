"""What the checks share: models and draws with fixed seeds."""

from __future__ import annotations

import torch
from torch import nn

from collapse_sim.core.machine import Machine
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.hooks import HasConditions

CPU = Machine(torch.device("cpu"), "fp32")


def named_conditions(family: object) -> tuple[str, ...]:
    return family.conditions if isinstance(family, HasConditions) else ()


def built(family: ModelFamily, info: Info, seed: int) -> nn.Module:
    with CPU.seeded(seed):
        return family.build(info).eval()


def fixed_draws(role: str, seed: int = 0, *, stacked: bool = False) -> Draws:
    return Draws((seed,), role, 0, dtype=torch.float64 if stacked else torch.float32, stacked=stacked)
