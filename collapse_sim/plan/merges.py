"""Models whose weights are combined from those of others: another coefficient needs no fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from collapse_sim.families.hooks import Combinable
from collapse_sim.plan.settings import Teacher
from collapse_sim.plan.specs import FitSpec, ModelSpec
from collapse_sim.store.spec import Spec

MERGE_VERSION = 1  # raised when the same coefficients give other weights


@dataclass(frozen=True, eq=False, kw_only=True)
class MergeSpec(ModelSpec):
    """theta = sum of coefficient x theta_model over models of one family, the first of them the generation's fit."""

    models: tuple[ModelSpec, ...]
    coefficients: tuple[float, ...]  # they add up to 1
    infeasible: Literal["refuse", "project"]

    @property
    def fitted(self) -> FitSpec:
        return self.models[0].fitted

    @property
    def parents(self) -> tuple[Spec, ...]:
        return self.models


def merge_spec(
    models: tuple[ModelSpec, ...], coefficients: tuple[float, ...], infeasible: Literal["refuse", "project"]
) -> MergeSpec:
    """The combination of these models; the first is the generation's fit."""
    fit = models[0]
    description: dict[str, Any] = {
        "version": MERGE_VERSION,
        "generation": fit.generation,
        "models": [[model.digest, weight] for model, weight in zip(models, coefficients, strict=True)],
    }
    if isinstance(fit.family, Combinable):
        description["infeasible"] = infeasible
    return MergeSpec(
        "merge", fit.generation, description, any(model.seeded for model in models), fit.stacked,
        family=fit.family, train=fit.train, data=fit.data,
        models=models, coefficients=coefficients, infeasible=infeasible,
    )  # fmt: skip


def averaged_teacher(teacher: Teacher | None, fit: FitSpec, before: ModelSpec | None) -> ModelSpec | None:
    """The moving average of the fits up to this one, which teaches the next generation; None if there is no such
    teacher. `before`: the average up to the fit before."""
    if teacher is None or not teacher.active or teacher.generation != "ema":
        return None
    return fit if before is None else merge_spec((fit, before), (teacher.rate, 1 - teacher.rate), "refuse")
