"""Curves that theory predicts for a recipe's arms, asked of the model family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collapse_sim.families.base import theory_of
from collapse_sim.plugins import asking
from collapse_sim.registry import identity

if TYPE_CHECKING:
    from collapse_sim.data.base import Info
    from collapse_sim.recipe.schema import Recipe
    from collapse_sim.strategies import RowCounts


def curves(recipe: Recipe, counts: RowCounts, info: Info) -> dict[str, dict[str, list[float]]]:
    """{arm: {metric's shown name: expected value at generation 0, 1, ...}}, for what the family knows; {} if nothing.

    A family that knows curves has the method `theory(metric, arm, counts, data, info, generations) -> list | None`,
    where `metric` is the registry's name of the metric ("module:Class" for one that has none).
    """
    theory = theory_of(recipe.model)
    if theory is None:
        return {}
    found: dict[str, dict[str, list[float]]] = {}
    for arm in recipe.arms:
        for shown, metric in recipe.metrics.items():
            with asking(recipe.model, "theory"):
                curve = theory(identity(type(metric)), arm, counts, recipe.data, info, recipe.generations)
                if curve is not None:
                    found.setdefault(arm.name, {})[shown] = [float(value) for value in curve]
    return found
