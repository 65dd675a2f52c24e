"""Checks, before anything is made, whether what a recipe asks for can fit in memory at all."""

from __future__ import annotations

import math
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.plugins import plugin_errors
from collapse_sim.families.base import ClosedForm, ModelFamily
from collapse_sim.store.jobs import MAX_STACK

if TYPE_CHECKING:
    from collapse_sim.data.base import Info
    from collapse_sim.plan.settings import Recipe

CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_rows(recipe: Recipe, info: Info) -> None:
    """Raise RecipeError when simulated rows are larger than all memory that this process can have.

    Here and below only certain failures are refused: gradients, activations and other programs need memory on top.
    """
    if recipe.data.seeded:
        stack = min(len(recipe.seeds), MAX_STACK)
        rows = max(info.pool, info.held_out, info.validation)
        _check(recipe, "data", "rows that are simulated together", rows * info.row_bytes, stack)


def check_weights(recipe: Recipe, info: Info, path: str = "model") -> int:
    """The bytes of one model's weights. Raises RecipeError when they exceed all memory, or cannot be made.

    `path` is the model's path in the recipe.
    """
    try:
        weights = _weights(recipe.model, info)
    except ValueError as error:  # incompatible settings, reported by the library behind the model
        raise RecipeError(f"{recipe.where(path)}: {path}: {error}") from error
    stack = min(len(recipe.seeds), MAX_STACK) if isinstance(recipe.model, ClosedForm) else 1
    _check(recipe, path, "weights", weights, stack)
    return int(weights)


def _check(recipe: Recipe, path: str, what: str, each: float, seeds: int) -> None:
    needed, has = each * seeds, available()
    if needed > has:
        of = f" (of {seeds} seeds)" if seeds > 1 else ""
        raise RecipeError(
            f"{recipe.where(path)}: {path}: {what}{of} take {needed / 1e9:,.1f} GB of memory, and this process can "
            f"have {has / 1e9:,.1f} GB: choose a smaller size"
        )


def _weights(family: ModelFamily, info: Info) -> float:
    """Bytes of a model's weights; infinite for sizes that torch cannot count. Allocates no memory."""
    import torch

    with plugin_errors(family, "build", (ValueError,)):
        try:
            with torch.device("meta"):
                state = family.build(info).state_dict()
        except (RuntimeError, MemoryError, OverflowError) as error:
            if isinstance(error, RuntimeError) and "overflow" not in str(error):
                raise
            return math.inf
        return float(sum(tensor.numel() * tensor.element_size() for tensor in state.values()))


def available() -> int:
    """Bytes of memory that this process can have: the least of machine, container and its own limit (ulimit -v)."""
    bounds: list[int] = [psutil.virtual_memory().total + psutil.swap_memory().total]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        bounds.append(soft)
    for name in CGROUPS:
        try:
            bounds.append(int(Path(name).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return min(bounds)
