"""Which families' weights can be combined linearly."""

from __future__ import annotations

from collapse_sim.core.registry import identity
from collapse_sim.families.base import ClosedForm, ModelFamily
from collapse_sim.families.hooks import Combinable, MayCombine


def check_combinable(family: ModelFamily, infeasible: str = "refuse") -> None:
    """Raise ValueError for a family whose parameters do not belong together one by one, as those of a mixture, and for
    `infeasible: project` where any parameters are those of a model."""
    if isinstance(family, ClosedForm) and not isinstance(family, Combinable):
        raise ValueError(
            f"the parameters of two {identity(type(family))} models do not correspond to each other, so they cannot be "
            "combined; allowed: networks, and closed forms such as gaussian and linear"
        )
    if infeasible != "refuse" and not isinstance(family, Combinable):
        raise ValueError(
            f"infeasible: {infeasible} changes nothing: any combined weights are those of a {identity(type(family))} "
            "model; remove it"
        )
    if isinstance(family, MayCombine) and not family.combines:
        raise ValueError(
            "factors of adapters are trained, and combining factors is not combining weights; remove `lora`"
        )
