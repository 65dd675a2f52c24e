"""How long later generations are fitted when arms have different numbers of rows: the protocol of a comparison.

An arm that accumulates has k + 1 times the rows of one that replaces. With equal updates it sees each row less and less
often; with equal epochs it takes more and more updates; published results rank the arms both ways. So every arm says:

- updates: as many optimiser updates in every generation as in generation 0;
- epochs: as many passes over its own rows (Gerstgrasser et al. 2024);
- converged: until the loss on validation rows stops falling; the weights with the lowest loss are kept.

Generation 0 is the same fit under updates and epochs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from collapse_sim.core.errors import RecipeError
from collapse_sim.data.base import Info
from collapse_sim.data.sources import REAL
from collapse_sim.families.training import Train, updates_per_epoch
from collapse_sim.plan.settings import Arm, Protocol, Recipe

if TYPE_CHECKING:
    from collapse_sim.core.machine import Device
    from collapse_sim.plan.experiment import Experiment
    from collapse_sim.plan.generations import ArmPlan


PATIENCE = 5  # evaluations, if the recipe gives none
LONGEST = 20  # times the length that a recipe gives: the limit of a fit that is still improving


def protocol_of(train: Train, protocol: Protocol | None) -> Protocol:
    """The arm's protocol; by default the unit in which the length of a fit is given."""
    return protocol or ("updates" if train.steps is not None else "epochs")


def at_length(train: Train, protocol: Protocol, rows: int, real: int) -> Train:
    """The settings of one fit with its length in `steps`, for `rows` rows where generation 0 has `real` rows.

    Fits of equal length have equal settings, and so equal keys, whichever protocol they follow.
    """
    mine, first = updates_per_epoch(train, rows), updates_per_epoch(train, real)
    if train.steps is not None:
        steps = train.steps if protocol == "updates" else round(train.steps * mine / first)
    else:
        steps = round((train.epochs or 0) * (first if protocol == "updates" else mine))
    steps = max(1, steps)
    changes: dict[str, object] = {"steps": steps, "epochs": None}
    if protocol == "converged":
        warmup = train.warmup_steps or round(train.warmup_ratio * steps)  # of the given length, not of the limit
        changes |= {"steps": steps * LONGEST, "patience": train.patience or PATIENCE, "keep": "best"}
        changes |= {"warmup_steps": warmup, "warmup_ratio": 0.0}
    return train.model_copy(update=changes)


def at_precision(recipe: Recipe, device: Device | None = None) -> Recipe:
    """The recipe with `precision: auto` replaced by what it means on a device (None: fp32).

    Raises RecipeError for every precision that the device does not support.
    """
    auto = device.with_precision("auto").precision if device else "fp32"
    problems: list[str] = []

    def resolve(train: Train | None, path: str) -> Train | None:
        if train is not None and device is not None:
            try:
                device.with_precision(train.precision)
            except RecipeError as error:
                where = f"{path}.precision"
                problems.append(f"{recipe.where(where)}: {where}: {error}")
        return train.model_copy(update={"precision": auto}) if train and train.precision == "auto" else train

    arms = tuple(
        replace(
            arm,
            train=resolve(arm.train, f"arms.{arm.name}.train"),
            retrain=resolve(arm.retrain, f"arms.{arm.name}.retrain"),
        )
        for arm in recipe.arms
    )
    train, retrain = resolve(recipe.train, "train"), resolve(recipe.retrain, "retrain")
    resolved = replace(recipe, train=train, retrain=retrain, arms=arms)
    if problems:
        raise RecipeError(*dict.fromkeys(problems))
    document = dict(recipe.document)
    for key, train in (("train", resolved.train), ("retrain", resolved.retrain)):
        if train is not None and key in document:
            document[key] = train.model_dump(mode="json")
    for arm in arms if "arms" in document else ():
        own = {"train": arm.train, "retrain": arm.retrain}
        own_settings = {key: train.model_dump(mode="json") for key, train in own.items() if train is not None}
        document["arms"] = {**document["arms"], arm.name: {**document["arms"][arm.name], **own_settings}}
    return replace(resolved, document=document)


def _choosing(recipe: Recipe) -> Iterator[tuple[str, Arm, int]]:
    """Where validation rows choose the weights: (path of the setting, arm, generation 0 or 1)."""
    for arm in recipe.arms:
        own = recipe.for_arm(arm)
        for k in (0, 1) if recipe.generation_0 is None else (1,):
            train = own.train_of(k)
            path = _path_of_training(recipe, arm, k)
            if train is None:
                continue
            if arm.protocol == "converged":
                yield f"arms.{arm.name}.protocol", arm, k
            elif train.keep == "best" or train.patience:
                yield f"{path}.{'keep' if train.keep == 'best' else 'patience'}", arm, k


def _path_of_training(recipe: Recipe, arm: Arm, k: int) -> str:
    """The recipe path of the settings that generation k of an arm is fitted with."""
    if k and arm.retrain:
        return f"arms.{arm.name}.retrain"
    if arm.train:
        return f"arms.{arm.name}.train"
    return "retrain" if k and recipe.retrain else "train"


def without_validation(recipe: Recipe, info: Info) -> list[str]:
    """Problems: settings that need validation rows when there are none, as held-out rows are for reporting."""
    if info.validation:
        return []
    advice = "set data.validation_rows, for instance to a tenth of the real rows"
    paths = dict.fromkeys(path for path, _, _ in _choosing(recipe))
    return [
        f"{recipe.where(path)}: {path}: it chooses by validation rows, and there are none: {advice}" for path in paths
    ]


def warnings_of(experiment: Experiment) -> list[str]:
    """Warnings about settings that a careful reader would object to, but that may be intended."""
    recipe = experiment.recipe
    arms_by_path: dict[str, list[str]] = {}
    for path, arm, k in _choosing(recipe):
        plan = next(plan for plan in experiment.arm_plans if plan.name == arm.name)
        later = [source for generation in plan.generations[1:] for source in generation.rows.sources]
        if k and all(source.generation != REAL for source in later):
            arms_by_path.setdefault(path, []).append(arm.name)
    return [
        f"{', '.join(arms)}: fitted to no real rows, and {path} lets real validation rows choose the weights: a fit "
        "that ends early because of this is not collapse"
        + ("" if path.endswith("protocol") else "; set retrain: {keep: last} to leave them out")
        for path, arms in arms_by_path.items()
    ]


def training_of(plan: ArmPlan) -> dict[str, Any] | None:
    """How long an arm's fits are; None for closed forms: {"protocol": ..., "rows": [...], "updates": [...],
    "epochs": [...]}, one entry per generation. Under `converged` these lengths are upper limits. Without a fit they
    are 0."""
    trains = [generation.fit.train for generation in plan.generations if generation.fit.train is not None]
    if not trains:
        return None
    rows = [generation.rows.rows for generation in plan.generations]
    fitted = [generation.fitted for generation in plan.generations]
    updates = [(train.steps or 0) if fit else 0 for train, fit in zip(trains, fitted, strict=True)]
    passes = [
        round(count / updates_per_epoch(train, n), 3) for count, train, n in zip(updates, trains, rows, strict=True)
    ]
    return {"protocol": plan.protocol, "rows": rows, "updates": updates, "epochs": passes}
