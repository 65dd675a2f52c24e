"""What a recipe's training comes to: precision on a machine, lengths by generation, what weights are chosen by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from collapse_sim.data.base import Info
from collapse_sim.data.sources import REAL
from collapse_sim.families.training import Train, updates_per_epoch
from collapse_sim.plan.settings import Arm, Recipe

if TYPE_CHECKING:
    from collapse_sim.core.machine import Machine
    from collapse_sim.plan.experiment import Experiment, Line


def at_precision(recipe: Recipe, machine: Machine | None = None) -> Recipe:
    """The recipe with what `precision: auto` means on a machine (None: a CPU) written out."""
    from collapse_sim.core.machine import open_machine

    auto = (machine or open_machine("cpu")).at("auto").precision

    def resolve(train: Train | None) -> Train | None:
        return train.model_copy(update={"precision": auto}) if train and train.precision == "auto" else train

    arms = tuple(replace(arm, retrain=resolve(arm.retrain)) for arm in recipe.arms)
    resolved = replace(recipe, train=resolve(recipe.train), retrain=resolve(recipe.retrain), arms=arms)
    document = dict(recipe.document)
    for key, train in (("train", resolved.train), ("retrain", resolved.retrain)):
        if train is not None and key in document:
            document[key] = train.model_dump(mode="json")
    for arm in arms:
        if arm.retrain is not None and "arms" in document:
            own = {**document["arms"][arm.name], "retrain": arm.retrain.model_dump(mode="json")}
            document["arms"] = {**document["arms"], arm.name: own}
    return replace(resolved, document=document)


def _choosing(recipe: Recipe) -> Iterator[tuple[str, Arm, int]]:
    """Where weights are chosen by validation rows: (path of the setting, arm, generation 0 or 1)."""
    for arm in recipe.arms:
        for k in (0, 1):
            train = recipe.train_of(k, arm)
            path = "train" if k == 0 or not (arm.retrain or recipe.retrain) else "retrain"
            path = f"arms.{arm.name}.retrain" if k and arm.retrain else path
            if train is None:
                continue
            if arm.protocol == "converged":
                yield f"arms.{arm.name}.protocol", arm, k
            elif train.keep == "best" or train.patience:
                yield f"{path}.{'keep' if train.keep == 'best' else 'patience'}", arm, k


def without_validation(recipe: Recipe, info: Info) -> list[str]:
    """Settings that need validation rows, where there are none: held-out rows are for what is reported."""
    if info.validation:
        return []
    advice = "set data.validation_rows, for instance to a tenth of the real rows"
    paths = dict.fromkeys(path for path, _, _ in _choosing(recipe))
    return [
        f"{recipe.where(path)}: {path}: it chooses by validation rows, and there are none: {advice}" for path in paths
    ]


def warnings_of(experiment: Experiment) -> list[str]:
    """What a careful reader would object to, and what may be meant all the same."""
    recipe = experiment.recipe
    found: dict[str, list[str]] = {}
    for path, arm, k in _choosing(recipe):
        line = next(line for line in experiment.lines if line.arm.name == arm.name)
        if k and all(source.generation != REAL for plan in line.plans[1:] for source in plan.sources):
            found.setdefault(path, []).append(arm.name)
    return [
        f"{', '.join(arms)}: fitted to no real rows, and {path} lets real validation rows choose the weights: a fit "
        "that ends early for that is no collapse"
        + ("" if path.endswith("protocol") else "; set retrain: {keep: last} to leave them out")
        for path, arms in found.items()
    ]


def training_of(line: Line) -> dict[str, Any] | None:
    """How long the fits of an arm are; None for closed forms: {"protocol": ..., "rows": [...], "updates": [...],
    "epochs": [...]}, one entry a generation. Under `converged` these are the lengths that a fit ends at the latest."""
    trains = [fit.train for fit in line.fits if fit.train is not None]
    if not trains:
        return None
    rows = [plan.rows for plan in line.plans]
    updates = [train.steps or 0 for train in trains]
    passes = [
        round(count / updates_per_epoch(train, n), 3) for count, train, n in zip(updates, trains, rows, strict=True)
    ]
    return {"protocol": line.protocol, "rows": rows, "updates": updates, "epochs": passes}
