"""From a recipe to the table of everything to make: arms x generations of specs. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from collapse_sim.core.component import is_plugin
from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.core.plugins import plugin_errors
from collapse_sim.data.base import Info
from collapse_sim.data.sources import Plan, RowCounts, StrategyError, generation_zero
from collapse_sim.data.split import divided
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.hooks import Deterministic
from collapse_sim.families.imported import GivenModel
from collapse_sim.metrics.base import Metric, UntriedMap, WeightedMap
from collapse_sim.plan.contracts import check_info, check_plan
from collapse_sim.plan.curation_specs import (
    CurationSpec,
    VerifierSpec,
    candidates_for,
    curation_of_past,
    curation_of_samples,
    keeps_all,
    verifier_of,
)
from collapse_sim.plan.data_checks import (
    conditions_beyond,
    curation_misfits,
    metric_misfits,
    misfit,
    weighting_misfits,
    with_recipe_lines,
)
from collapse_sim.plan.generations import ArmPlan, GenerationPlan
from collapse_sim.plan.given_models import given_models
from collapse_sim.plan.imports import Imports, import_misfits, read_imports, with_samples, without_unread
from collapse_sim.plan.in_use import in_use, own_misfits
from collapse_sim.plan.layer_paths import layer_misfits
from collapse_sim.plan.memory import check_rows, check_weights
from collapse_sim.plan.merges import MergeSpec, averaged_teacher
from collapse_sim.plan.protocol import at_length, at_precision, protocol_of, without_validation
from collapse_sim.plan.score_specs import FeatureSpecs, score_spec
from collapse_sim.plan.settings import Arm, Recipe
from collapse_sim.plan.specs import (
    DataSpec,
    FitSpec,
    SampleSpec,
    SourcesKey,
    data_spec,
    fit_spec,
    import_spec,
    imported_spec,
    replace_info,
)
from collapse_sim.plan.strategies import samples_of
from collapse_sim.plan.taught import taught_misfits, teacher_of_its_own
from collapse_sim.remedies.base import Curation
from collapse_sim.store.spec import Spec

if TYPE_CHECKING:
    from collapse_sim.core.machine import Device
    from collapse_sim.metrics.weights import WeightsFile

T = TypeVar("T", ModelFamily, Metric)


@dataclass(frozen=True)
class Experiment:
    """A recipe checked against its data: every problem that can be found before training has been looked for."""

    recipe: Recipe
    info: Info
    counts: RowCounts
    data: DataSpec
    shared: tuple[Spec, ...]  # the real rows, feature networks and real features: the same for all generations
    arm_plans: tuple[ArmPlan, ...]
    weights_bytes: Mapping[str, int]  # {arm: bytes of one model's weights}

    def try_networks(self) -> None:
        """Run the networks in the user's own files once before anything is fitted: they are code that no check covers.

        Raises MissingError when one returns no features.
        """
        for score in self.arm_plans[0].generations[0].scores.values():
            feature_map = getattr(score.metric, "feature_map", None)
            if score.weights is not None and isinstance(feature_map, UntriedMap):
                with plugin_errors(feature_map, "try_out"):
                    feature_map.try_out(score.weights)

    def specs(self) -> Iterator[Spec]:
        """Every artefact of the experiment once, parents first."""
        by_generation = zip(*(plan.generations for plan in self.arm_plans), strict=True)
        planned = (spec for arms in by_generation for generation in arms for spec in generation.specs())
        yield from {spec.digest: spec for spec in (*self.shared, *planned)}.values()

    def fits(self) -> tuple[FitSpec, ...]:
        """The fits of all arms and generations, each once; without those that nothing reads."""
        fits = (fit for arm in self.arm_plans for plan in arm.generations for fit in plan.fits)
        return tuple({fit.digest: fit for fit in fits}.values())

    def arms_by_digest(self) -> dict[str, list[str]]:
        """{digest: the arms whose model, samples, features or score it is}; data and networks have no entry."""
        arms: dict[str, list[str]] = {}
        for plan in self.arm_plans:
            for digest in {spec.digest for generation in plan.generations for spec in generation.specs()}:
                arms.setdefault(digest, []).append(plan.name)
        return arms


def prepare(recipe: Recipe, data_dir: Path, device: Device | None = None) -> Experiment:
    """Inspect the data, check everything against it, find weights files, and lay out all specs.

    Precisions are resolved for `device` (None: a CPU), because a fit in another precision is a different fit.

    Raises MissingError when data or weights do not exist, RecipeError for every other problem.
    """
    with with_recipe_lines(recipe), plugin_errors(recipe.data, "inspect"):
        info = recipe.data.inspect(data_dir)
        check_info(info, recipe.data)
        info = divided(recipe.data, info)
    recipe = at_precision(recipe, device)
    recipe = _with_files(recipe, data_dir)
    imports = read_imports(recipe, info, data_dir)
    recipe = with_samples(recipe, imports)
    check_rows(recipe, info)
    problems: list[str] = []
    weights_bytes: dict[str, int] = {}
    plans: dict[str, tuple[Plan, ...]] = {}
    for arm in recipe.arms:
        try:
            plans[arm.name], weights_bytes[arm.name], own_problems = _check_arm(recipe, arm, info, imports[arm.name])
            problems += own_problems
        except RecipeError as error:
            problems += error.problems
    problems += without_validation(recipe, info)
    if problems:
        raise RecipeError(*dict.fromkeys(problems))
    files = {name: _weights(metric, data_dir) for name, metric in recipe.metrics.items()}
    given = given_models(recipe, info, data_dir)
    return lay_out(recipe, info, plans, files, weights_bytes, imports, given)


def _check_arm(recipe: Recipe, arm: Arm, info: Info, imports: Imports) -> tuple[tuple[Plan, ...], int, list[str]]:
    """An arm's plans, the bytes of one model's weights, and the problems of its settings on this data.

    Raises RecipeError for a problem that leaves nothing else to check.
    """
    own, own_info = recipe.for_arm(arm), info_of(recipe, arm, info)
    counts = counts_of(own, own_info)
    path = f"arms.{arm.name}.model" if arm.model else "model"
    misfits = [*misfit(recipe, path, own.model, partial(own.model.check, own_info))]
    weights_bytes = 0 if misfits or not own.has_model else check_weights(own, own_info, path)
    for axis, remedy in arm.remedies().items():
        where = f"arms.{arm.name}.{axis}"
        misfits += misfit(recipe, where, remedy, partial(remedy.check, own.data, own_info, own.model))
    if (curation := arm.curation) is not None:
        where = f"arms.{arm.name}.curation"
        misfits += misfit(recipe, where, curation, lambda: _check_candidates(curation, own.model, counts.samples))
    if not misfits:
        misfits += [*layer_misfits(recipe, arm, own.model, own_info)] or taught_misfits(recipe, arm, own, own_info)
    problems = [*misfits, *metric_misfits(own, own_info, counts, arm)]
    try:
        plans = plans_of(arm, recipe.generations, counts)
    except StrategyError as error:
        path = f"arms.{arm.name}.data"
        return (), weights_bytes, [*problems, f"{recipe.where(path)}: {path}: {error}"]
    samples = samples_by_generation(arm, recipe.generations, counts)
    problems += [*conditions_beyond(own, arm, plans, samples, counts), *own_misfits(own, arm, plans, counts, own_info)]
    problems += import_misfits(recipe, arm, samples, imports)
    problems += [*curation_misfits(own, arm, plans), *weighting_misfits(own, arm, plans)]
    return plans, weights_bytes, problems


def _check_candidates(curation: Curation, family: ModelFamily, rows: int) -> None:
    """Raise ValueError unless there are enough different candidates to keep `rows`."""
    more = curation.pool == "generation" and candidates_for(curation, rows) > rows
    if more and isinstance(family, Deterministic) and family.deterministic:
        raise ValueError(
            f"it needs several draws of a generation, which {type(family).__name__} would make equal with these "
            "settings: set the model's `decoding: sample`"
        )


def lay_out(
    recipe: Recipe,
    info: Info,
    plans: Mapping[str, tuple[Plan, ...]],
    files: Mapping[str, WeightsFile | None],
    weights_bytes: Mapping[str, int],
    imports: Mapping[str, Imports] | None = None,
    given: Mapping[str, GivenModel] | None = None,
) -> Experiment:
    """All specs of a recipe whose precisions are resolved. `plans` are those of each arm, `files` the weights that
    each metric's features are read from, `imports` the files with rows of each arm, `given` the models
    from outside that are the arms' generations 0."""
    data = data_spec(recipe.data, info)
    features = FeatureSpecs(data, recipe.metrics.values())
    imported, outside = imports or {}, given or {}
    arm_plans = tuple(
        _arm_plan(
            recipe, arm, plans[arm.name], data, features, files, imported.get(arm.name, {}), outside.get(arm.name)
        )
        for arm in recipe.arms
    )
    shared = (data, *features.shared())
    return Experiment(recipe, info, counts_of(recipe, info), data, shared, without_unread(arm_plans), weights_bytes)


def info_of(recipe: Recipe, arm: Arm, info: Info) -> Info:
    """The Info of the data for an arm, which may set its own number of real rows, up to those that exist."""
    if arm.rows is None:
        return info
    if arm.rows > info.pool:
        path = f"arms.{arm.name}.rows"
        raise RecipeError(
            f"{recipe.where(path)}: {path}: {arm.rows} asked for, but the data has {info.pool} real rows: lower it, or "
            "raise `data.rows`"
        )
    return replace(info, rows=arm.rows)


def counts_of(recipe: Recipe, info: Info) -> RowCounts:
    """The row counts that strategies plan with."""
    return RowCounts(info.rows, recipe.samples or info.rows, info.pool)


def plans_of(arm: Arm, generations: int, counts: RowCounts) -> tuple[Plan, ...]:
    """What each generation of an arm is fitted to. Raises StrategyError when the rows do not exist."""
    plans = [generation_zero(counts)]
    own, samples = is_plugin(type(arm.strategy)), samples_by_generation(arm, generations, counts)
    for k in range(1, generations + 1):
        with plugin_errors(arm.strategy, f"plan({k}, ...)", (StrategyError,)):
            plan = arm.strategy.plan(k, counts)
            if own:
                check_plan(plan, k, counts, samples)
        if arm.curation is not None and arm.curation.pool == "past":
            plan = plan._replace(budget=plan.budget or counts.real)
        plans.append(plan)
    return tuple(plans)


def samples_by_generation(arm: Arm, generations: int, counts: RowCounts) -> tuple[int, ...]:
    """How many rows each of generations 0 to `generations` generates."""
    with plugin_errors(arm.strategy, "rows_generated"):
        return tuple(samples_of(arm.strategy, k, counts) for k in range(generations + 1))


def _with_files(recipe: Recipe, data_dir: Path) -> Recipe:
    """The recipe with the files that its model and metrics read. Raises MissingError listing all that do not exist."""
    absent: list[str] = []

    def resolve(path: str, component: T) -> T:
        try:
            with plugin_errors(component, "resolve_files"):
                return component.resolve_files(data_dir)
        except MissingError as error:
            absent.append(f"{recipe.where(path)}: {path}: {error}")
            return component

    def of(arm: Arm, path: str, family: ModelFamily | None) -> ModelFamily | None:
        return family and resolve(f"arms.{arm.name}.{path}", family)

    model = resolve("model", recipe.model)
    arms = tuple(
        replace(arm, model=of(arm, "model", arm.model), teacher_model=of(arm, "teacher.model", arm.teacher_model))
        for arm in recipe.arms
    )
    metrics = {name: resolve(f"metrics.{name}", metric) for name, metric in recipe.metrics.items()}
    if absent:
        raise MissingError("\n".join(absent))
    return replace(recipe, model=model, arms=arms, metrics=metrics)


def _weights(metric: Metric, data_dir: Path) -> WeightsFile | None:
    """The file that a metric's feature map reads its network from, if it needs one."""
    feature_map = getattr(metric, "feature_map", None)
    if not isinstance(feature_map, WeightedMap):
        return None
    with plugin_errors(feature_map, "weights"):
        return feature_map.weights(data_dir)


def _arm_plan(
    recipe: Recipe,
    arm: Arm,
    plans: tuple[Plan, ...],
    all_data: DataSpec,
    features: FeatureSpecs,
    files: Mapping[str, WeightsFile | None],
    imports: Imports,
    imported: GivenModel | None,
) -> ArmPlan:
    own = recipe.for_arm(arm)
    data = replace_info(all_data, info_of(recipe, arm, all_data.info))
    counts, shard = counts_of(own, data.info), own.sampling.shard
    generations: list[GenerationPlan] = []
    past: dict[int, SampleSpec | CurationSpec] = {}
    key, chosen, averaged = SourcesKey(data, past), None, None
    verifier: VerifierSpec | None = None
    tutor: FitSpec | None = None  # a teacher that is a fit of its own
    used = {source.generation for plan in plans for source in plan.sources}
    wants_outputs = any("outputs" in metric.needs for metric in recipe.metrics.values())
    for k, plan in enumerate(plans):
        given = train = own.train_of(k)
        if train is not None:
            train = at_length(train, protocol_of(train, arm.protocol), plan.rows, counts.real)
        previous = generations[k - 1].model if k > 0 else None
        taught_by = arm.teacher if k > 0 else None
        teacher = None
        if taught_by is not None:  # generation 0 teaches as it was fitted, whatever its merge makes of it
            teacher = tutor or averaged or (previous if taught_by.generation == "previous" else generations[0].fit)
        weights = taught_by.weights if taught_by else None
        criterion = taught_by.criterion if taught_by else "mse"
        init = previous if arm.init == "previous" else None
        if k == 0 and imported is not None:
            fit = import_spec(imported, own.model, given, plan, data)
        else:
            fit = fit_spec(
                k, own.model, train, plan, data, past, teacher, weights, init,
                criterion=criterion, weighting=arm.weighting, curation=chosen, key=key,
            )  # fmt: skip
        rows = samples_of(arm.strategy, k, counts)
        using = in_use(arm, fit, previous, given, rows, shard)
        samples = using.samples(rows, shard)
        if k in imports:
            samples = imported_spec(samples, imports[k])
        past[k] = samples
        outputs = using.outputs(data.info.held_out, shard) if wants_outputs else None
        origin, chosen, curation = (generations[0].fit if generations else fit), None, None
        if k == 0:
            tutor = teacher_of_its_own(arm, fit)
            verifier = verifier_of(arm.curation, samples, origin)
        if arm.curation is not None and arm.curation.pool == "past":
            if k + 1 < len(plans):
                chosen = curation = curation_of_past(
                    arm.curation, own.model, plans[k + 1], data, past, using.model, origin, key, verifier
                )
        elif arm.curation is not None and k in used and not keeps_all(arm.curation):
            past[k] = curation = curation_of_samples(arm.curation, samples, shard, origin, verifier)
        scores = {
            name: score_spec(metric, samples, origin, features, files[name], outputs)
            for name, metric in recipe.metrics.items()
        }
        averaged = averaged_teacher(arm.teacher, fit, averaged) if k + 1 < len(plans) else None
        between = (
            *using.between,
            *([averaged] if isinstance(averaged, MergeSpec) else []),
            *([tutor] if tutor and not k else []),
        )
        own_verifier = verifier if k == 0 else None
        generations.append(GenerationPlan(fit, samples, outputs, curation, scores, between, own_verifier))
    later = own.train_of(1)
    protocol = protocol_of(later, arm.protocol) if later else None
    return ArmPlan(arm, own, data, counts, protocol, tuple(generations))
