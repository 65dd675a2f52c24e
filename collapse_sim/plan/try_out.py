"""Calls the functions that a recipe names on a few rows, before anything is made: code that no check covers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, cast

from collapse_sim.core.errors import PluginError, RecipeError
from collapse_sim.core.plugins import plugin_errors
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, FileData, SimulatedData
from collapse_sim.plan.experiment import Experiment
from collapse_sim.remedies.base import CallsFunctions
from collapse_sim.remedies.own_functions import values

if TYPE_CHECKING:
    from torch import Tensor

FEW = 8  # real rows
SPREAD = 3.0  # of shuffled coordinates, relative to the real ones


def try_functions(experiment: Experiment, data_dir: Path) -> None:
    """Raise RecipeError for each function of rows that raises, returns anything but one number per row, or nan, or does
    not tell rows apart."""
    problems = list(dict.fromkeys(_problems(experiment, data_dir)))
    if problems:
        raise RecipeError(*problems)


def _problems(experiment: Experiment, data_dir: Path) -> Iterator[str]:
    recipe, rows = experiment.recipe, dict[str, "Tensor"]()
    for plan in experiment.arm_plans:
        for axis, remedy in plan.arm.remedies().items():
            with plugin_errors(remedy, "own_functions"):
                names = remedy.own_functions if isinstance(remedy, CallsFunctions) else ()
            path = f"arms.{plan.name}.{axis}"
            for name in names:
                rows = rows or _few_real_rows(recipe.data, data_dir)
                generated = {column: rows[column] for column in plan.recipe.model.columns if column in rows}
                try:
                    with redirect_stdout(sys.stderr):
                        check_function(name, generated)
                except (PluginError, ValueError) as error:
                    yield f"{recipe.where(path)}: {path}: {error}"


def check_function(name: str, rows: dict[str, Tensor]) -> None:
    """Raise PluginError or ValueError unless the function gives real rows numbers, and not the same to all of them and
    to rows with shuffled values. What it does with such rows is otherwise its own affair."""
    real = values(name, rows)
    n = len(real)
    if bad := int(real.isnan().sum()):
        raise ValueError(f"{name} is nan for {bad} of {n} real rows that it was tried on; needed: a number for each")
    if n < 2 or bool((real != real[0]).any()):
        return
    try:
        others = values(name, shuffled_values(rows))
    except PluginError:
        return
    if bool((others == real[0]).all()):
        raise ValueError(
            f"{name} is {float(real[0]):g} for all of {n} real rows, and of as many with their values shuffled, so it "
            "does not tell rows apart"
        )


def shuffled_values(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each column with its values in random order, those of floating point also spread."""
    import torch

    generator, result = torch.Generator().manual_seed(0), {}
    for name, column in rows.items():
        order = torch.randperm(column.numel(), generator=generator)
        shuffled = column.flatten()[order].reshape(column.shape)
        result[name] = shuffled * SPREAD if column.is_floating_point() else shuffled
    return result


def _few_real_rows(data: Data, data_dir: Path) -> dict[str, Tensor]:
    import torch

    with plugin_errors(data, "simulate" if data.seeded else "open"):
        if data.seeded:
            draws = Draws((0,), "real", 0, dtype=torch.float64, stacked=True)
            return {name: column[0] for name, column in cast(SimulatedData, data).simulate(FEW, draws).items()}
        real, _ = cast(FileData, data).open(data_dir)
        return {name: torch.from_numpy(column.copy()) for name, column in real.read(0, min(FEW, len(real))).items()}
