"""Theory curves are asked of the family, metric by metric."""

from types import SimpleNamespace
from typing import Any, ClassVar

from collapse_sim.analysis.theory import curves
from collapse_sim.component import Component
from collapse_sim.metrics.points import VarianceRatio
from collapse_sim.strategies import RowCounts

COUNTS = RowCounts(real=10, samples=10, pool=10)


class OwnMetric(Component):
    """A metric that is not in the registry."""


class Knowing:
    """A family that knows a curve of one metric for one arm, and notes what it is asked."""

    asked: ClassVar[list[tuple[Any, ...]]] = []

    def theory(self, metric: str, arm: Any, counts: Any, data: Any, info: Any, generations: int) -> list[float] | None:
        self.asked.append((metric, arm.name, counts, data, info, generations))
        return [1] * (generations + 1) if (metric, arm.name) == ("variance_ratio", "replace") else None


def recipe(model: object) -> Any:
    arms = (SimpleNamespace(name="replace"), SimpleNamespace(name="accumulate"))
    metrics = {"shown as": VarianceRatio(), "own": OwnMetric()}
    return SimpleNamespace(model=model, arms=arms, metrics=metrics, data="data", generations=2)


def test_curves_stand_under_the_shown_name() -> None:
    info: Any = "info"
    assert curves(recipe(Knowing()), COUNTS, info) == {"replace": {"shown as": [1.0, 1.0, 1.0]}}
    assert ("variance_ratio", "replace", COUNTS, "data", "info", 2) in Knowing.asked
    assert {asked[0] for asked in Knowing.asked} == {"variance_ratio", f"{OwnMetric.__module__}:OwnMetric"}


def test_a_family_without_theory_has_no_curves() -> None:
    info: Any = None
    assert curves(recipe(object()), COUNTS, info) == {}
