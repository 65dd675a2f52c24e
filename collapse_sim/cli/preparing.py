"""What `run` and `bench` begin with: a recipe, checked against its data, and the run directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collapse_sim.core.machine import Device
    from collapse_sim.plan.experiment import Experiment


class PreparedRun(NamedTuple):
    """An experiment, the device that it is prepared for, and its run directory."""

    experiment: Experiment
    device: Device
    folder: Path


def prepared(
    recipe: str,
    *,
    settings: Sequence[str] | None,
    smoke: bool,
    arms: Sequence[str] | None,
    seeds: Sequence[int] | None,
    generations: int | None,
    plugins: bool | None,
    device: str,
    data_dir: Path,
    out: Path | None,
) -> PreparedRun:
    """Read a recipe with the options of the command line, and prepare it. Raises RecipeError and MissingError."""
    from collapse_sim.core.machine import open_device
    from collapse_sim.plan.experiment import prepare
    from collapse_sim.recipe.loader import load
    from collapse_sim.store.run_directory import RUNS

    loaded = load(
        recipe,
        overrides=settings or (),
        smoke=smoke,
        arms=arms or (),
        seeds=seeds or (),
        generations=generations,
        plugins=plugins,
    )
    opened = open_device(device)
    folder = out or RUNS / (f"{loaded.name}-smoke" if smoke else loaded.name)
    return PreparedRun(prepare(loaded, data_dir, opened), opened, folder)
