"""What an arm's merge and guidance make of a generation's fit: the model in use, and how samples are drawn from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from collapse_sim.data.base import Info, conditions_of
from collapse_sim.data.sources import Plan, RowCounts, Source
from collapse_sim.families.base import ClosedForm
from collapse_sim.families.hooks import FromWeights, conditioning_of, conditions_are_reused
from collapse_sim.families.training import Train
from collapse_sim.plan.data_checks import misfit
from collapse_sim.plan.merges import merge_spec
from collapse_sim.plan.protocol import at_length
from collapse_sim.plan.settings import Arm, Recipe
from collapse_sim.plan.specs import FitSpec, ModelSpec, SampleSpec, fit_spec, sample_spec
from collapse_sim.remedies.base import Guidance, Operand
from collapse_sim.remedies.combining import check_combinable
from collapse_sim.remedies.own_fit import OwnFit
from collapse_sim.store.spec import Spec


@dataclass(frozen=True)
class InUse:
    """A generation's model and sampler, and what has to be made between fit and samples, in its order."""

    model: ModelSpec
    guidance: Guidance | None
    auxiliary: ModelSpec | None
    between: tuple[Spec, ...]

    def samples(self, rows: int, shard: int) -> SampleSpec:
        """The generation's samples."""
        return sample_spec(self.model, rows, shard, guidance=self.guidance, auxiliary=self.auxiliary)

    def outputs(self, rows: int, shard: int) -> SampleSpec:
        """What is generated for held-out rows' conditions."""
        return sample_spec(self.model, rows, shard, "held_out", guidance=self.guidance, auxiliary=self.auxiliary)


def in_use(arm: Arm, fit: FitSpec, previous: ModelSpec | None, train: Train | None, rows: int, shard: int) -> InUse:
    """The model in use of `fit`'s generation: merged, then guided.

    `previous` is that of the generation before, `train` the settings of the fit with the length as the recipe has it,
    `rows` how many samples a generation generates. A merge's own samples are drawn from the fit with the arm's guidance
    unless that has a second model; that of a guidance is fitted to samples of the merged model.
    """
    model: ModelSpec = fit
    between: list[Spec] = []
    guidance = arm.guidance if arm.guidance is not None and not arm.guidance.neutral else None
    if arm.merge is not None:
        wanted = {of: weight for of, weight in arm.merge.coefficients(fit.generation).items() if weight != 0}
        models: dict[Operand, ModelSpec] = {"fit": fit}
        if previous is not None:
            models["previous"] = previous
        if "own" in wanted:
            assert arm.merge.own is not None
            sampler = guidance if guidance is not None and guidance.own is None else None
            samples, models["own"] = _own(arm.merge.own, fit, train, rows, shard, sampler)
            between += [samples, models["own"]]
        if wanted != {"fit": 1}:
            names = sorted({"fit", *wanted}, key=list(models).index)
            model = merge_spec(
                tuple(models[name] for name in names),
                tuple(wanted.get(name, 0.0) for name in names),
                arm.merge.infeasible,
            )
            between.append(model)
    auxiliary = None
    if guidance is not None and guidance.own is not None:
        samples, auxiliary = _own(guidance.own, model, train, rows, shard, None)
        between += [samples, auxiliary]
    return InUse(model, guidance, auxiliary, tuple(between))


def _own(
    own: OwnFit, model: ModelSpec, train: Train | None, rows: int, shard: int, guidance: Guidance | None
) -> tuple[SampleSpec, FitSpec]:
    """Own samples of a model, and the fit to them that begins with its weights."""
    n, k = own.samples or rows, model.generation
    if train is not None:
        train = own.train.over(train)
        train = at_length(train, "updates" if train.steps is not None else "epochs", n, n)
    samples = sample_spec(model, n, shard, kind="own samples", guidance=guidance)
    init = None if isinstance(model.family, ClosedForm) else model
    plan = Plan((Source(k, n),))
    return samples, fit_spec(k, model.family, train, plan, model.data, {k: samples}, init=init, kind="own fit")


def own_misfits(recipe: Recipe, arm: Arm, plans: tuple[Plan, ...], counts: RowCounts, info: Info) -> Iterator[str]:
    """Problems of an arm's merge and guidance with its other settings; `recipe` has the arm's own."""
    conditions, family = conditions_of(recipe.data, recipe.model), recipe.model
    for axis, remedy in (("merge", arm.merge), ("guidance", arm.guidance)):
        own = remedy.own if remedy is not None else None
        if own is None or own.samples is None or not conditions or conditions_are_reused(family):
            continue
        path = f"arms.{arm.name}.{axis}.samples"
        most = min(plan.rows for plan in plans) if conditioning_of(family) == "fitted" else info.rows
        if own.samples > most:
            yield (
                f"{recipe.where(path)}: {path}: {own.samples} is more than the {most} rows whose "
                f"{', '.join(conditions)} they are generated for; lower it"
            )
    across = []
    if arm.merge is not None and arm.merge.coefficients(1).get("previous", 0) != 0:
        across.append(f"arms.{arm.name}.merge")
    if arm.teacher is not None and arm.teacher.generation == "ema":
        across.append(path := f"arms.{arm.name}.teacher.generation")
        yield from misfit(recipe, path, family, lambda: check_combinable(family))
    apart = arm.init != "previous" and not isinstance(family, ClosedForm)
    if apart and not (isinstance(family, FromWeights) and family.pretrained is not None):
        for path in across:
            yield (
                f"{recipe.where(path)}: {path}: it combines the weights of several generations, whose fits begin with "
                "different ones; set the arm's init: previous"
            )
