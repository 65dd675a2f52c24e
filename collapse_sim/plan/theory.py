"""Curves that theory predicts for a recipe's arms, provided by the model family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collapse_sim.core.plugins import plugin_errors
from collapse_sim.core.registry import identity
from collapse_sim.data.sources import Chain, Taught
from collapse_sim.families.hooks import HasTheory

if TYPE_CHECKING:
    from collapse_sim.plan.experiment import Experiment
    from collapse_sim.plan.settings import Arm


def curves(experiment: Experiment) -> dict[str, dict[str, list[float]]]:
    """{arm: {metric's shown name: expected value at generation 0, 1, ...}}, as far as the family knows; {} if nothing.

    A family that knows curves has the method `theory(metric, chain, data, info) -> list | None`, where `metric` is the
    metric's registry name ("module:Class" if it has none) and `chain` is what the models are made from
    (data.sources.Chain).
    """
    expected: dict[str, dict[str, list[float]]] = {}
    for plan in experiment.arm_plans:
        family = plan.recipe.model
        teacher = plan.arm.teacher
        if plan.arm.remedies() or (teacher and (teacher.generation == "ema" or teacher.own_fit)):
            continue  # a family's curves know chains of fits, and teachers that are fits of the chain
        if not isinstance(family, HasTheory) or plan.recipe.generation_0 is not None:
            continue  # curves begin with a fit to real rows
        chain = Chain(
            tuple(generation.rows for generation in plan.generations), taught(plan.arm, len(plan.generations))
        )
        for shown, metric in plan.recipe.metrics.items():
            with plugin_errors(family, "theory"):
                curve = family.theory(identity(type(metric)), chain, plan.recipe.data, plan.data.info)
                if curve is not None:
                    expected.setdefault(plan.name, {})[shown] = [float(value) for value in curve]
    return expected


def taught(arm: Arm, generations: int) -> tuple[Taught | None, ...]:
    """The teacher of each of `generations` generations; None for generation 0 and for weights that are all 0."""
    teacher = arm.teacher if arm.teacher is not None and arm.teacher.active else None
    later = range(1, generations)
    return (None, *(None if teacher is None else Taught(teacher.generation_for(k), teacher.weights) for k in later))
