"""Theory curves are asked of the family, metric by metric."""

from types import SimpleNamespace
from typing import Any, ClassVar

from collapse_sim.core.component import Component
from collapse_sim.data.sources import REAL, Chain, Plan, RowCounts, Source, Taught
from collapse_sim.metrics.closed_form import VarianceRatio
from collapse_sim.plan.experiment import plans_of
from collapse_sim.plan.settings import Arm, Teacher
from collapse_sim.plan.strategies import Accumulate, Replace
from collapse_sim.plan.theory import curves

COUNTS = RowCounts(real=10, samples=10, pool=10)


class OwnMetric(Component):
    """A metric that is not in the registry."""


class Knowing:
    """A family that knows a curve of one metric for one arm, and notes what it is asked."""

    asked: ClassVar[list[tuple[Any, ...]]] = []

    def theory(self, metric: str, chain: Chain, data: Any, info: Any) -> list[float] | None:
        self.asked.append((metric, chain, data, info))
        knows = metric == "variance_ratio" and len(chain.plans[-1].sources) == 1
        return [1] * len(chain.plans) if knows else None


def experiment(model: object) -> Any:
    """Two arms, the second one with a teacher, as far as curves look at it."""
    arms = (Arm("replace", Replace()), Arm("accumulate", Accumulate(), Teacher(generation=0, weights={"output": 0.5})))
    metrics = {"shown as": VarianceRatio(), "own": OwnMetric()}
    recipe = SimpleNamespace(model=model, metrics=metrics, data="data", generation_0=None)
    plans = [
        SimpleNamespace(
            name=arm.name,
            arm=arm,
            recipe=recipe,
            data=SimpleNamespace(info="info"),
            generations=[SimpleNamespace(rows=plan) for plan in plans_of(arm, 2, COUNTS)],
        )
        for arm in arms
    ]
    return SimpleNamespace(arm_plans=plans)


def test_curves_stand_under_the_shown_name() -> None:
    assert curves(experiment(Knowing())) == {"replace": {"shown as": [1.0, 1.0, 1.0]}}
    plans = [Plan((Source(generation, COUNTS.real),)) for generation in (REAL, 0, 1)]
    assert ("variance_ratio", Chain(tuple(plans), (None,) * 3), "data", "info") in Knowing.asked
    taught = Taught(0, {"output": 0.5})
    assert (None, taught, taught) in [chain.teachers for _, chain, *_ in Knowing.asked]
    assert {asked[0] for asked in Knowing.asked} == {"variance_ratio", f"{OwnMetric.__module__}:OwnMetric"}


def test_a_family_without_theory_has_no_curves() -> None:
    assert curves(experiment(object())) == {}
