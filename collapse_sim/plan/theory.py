"""Curves that theory predicts for a recipe's arms, asked of the model family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collapse_sim.core.plugins import asking
from collapse_sim.core.registry import identity
from collapse_sim.data.sources import Chain, RowCounts, Taught, generation_zero
from collapse_sim.families.base import theory_of

if TYPE_CHECKING:
    from collapse_sim.data.base import Info
    from collapse_sim.plan.settings import Arm, Recipe


def chain_of(arm: Arm, counts: RowCounts, generations: int) -> Chain:
    """What an arm's models are made from. A teacher whose weights are all 0 is none."""
    later = range(1, generations + 1)
    plans = (generation_zero(counts), *(arm.strategy.plan(k, counts) for k in later))
    teacher = arm.teacher if arm.teacher is not None and arm.teacher.active else None
    taught = (None if teacher is None else Taught(teacher.generation_for(k), teacher.weights) for k in later)
    return Chain(plans, (None, *taught))


def curves(recipe: Recipe, counts: RowCounts, info: Info) -> dict[str, dict[str, list[float]]]:
    """{arm: {metric's shown name: expected value at generation 0, 1, ...}}, for what the family knows; {} if nothing.

    A family that knows curves has the method `theory(metric, chain, data, info) -> list | None`, where `metric` is the
    registry's name of the metric ("module:Class" for one that has none) and `chain` is what the models are made from
    (data.sources.Chain).
    """
    theory = theory_of(recipe.model)
    if theory is None:
        return {}
    found: dict[str, dict[str, list[float]]] = {}
    for arm in recipe.arms:
        chain = chain_of(arm, counts, recipe.generations)
        for shown, metric in recipe.metrics.items():
            with asking(recipe.model, "theory"):
                curve = theory(identity(type(metric)), chain, recipe.data, info)
                if curve is not None:
                    found.setdefault(arm.name, {})[shown] = [float(value) for value in curve]
    return found
