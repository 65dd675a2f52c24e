"""From a recipe to the table of what there is to make: arms x generations of specs. Nothing is computed here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from collapse_sim.core.component import is_plugin
from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.core.plugins import asking
from collapse_sim.data.base import Info, conditions_of
from collapse_sim.data.sources import Plan, RowCounts, StrategyError, generation_zero
from collapse_sim.data.split import divided
from collapse_sim.families.base import ModelFamily, conditioning_of
from collapse_sim.metrics.base import Metric, PartsMetric, UntriedMap, WeightedMap
from collapse_sim.metrics.names import part_of
from collapse_sim.plan.contracts import check_info, check_plan
from collapse_sim.plan.memory import check_rows, check_weights
from collapse_sim.plan.protocol import at_length, at_precision, protocol_of, without_validation
from collapse_sim.plan.settings import Arm, Protocol, Recipe
from collapse_sim.plan.specs import (
    DataSpec,
    FeatureSpec,
    FitSpec,
    SampleSpec,
    ScoreSpec,
    SourcesKey,
    data_spec,
    fit_spec,
    sample_spec,
    score_spec,
)
from collapse_sim.store.spec import Spec

if TYPE_CHECKING:
    from torch import nn

    from collapse_sim.core.machine import Machine
    from collapse_sim.metrics.weights import WeightsFile

SETTING = re.compile(r"(data|train)\.\w+")
Found = TypeVar("Found", ModelFamily, Metric)


@dataclass(frozen=True)
class ArmPlan:
    """One arm, all generations (every seed is addressed by the same specs)."""

    arm: Arm
    protocol: Protocol | None  # None for closed forms
    plans: tuple[Plan, ...]
    fits: tuple[FitSpec, ...]
    samples: tuple[SampleSpec, ...]
    outputs: tuple[SampleSpec, ...]  # for the held-out rows' conditions; () when no metric looks at them
    features: tuple[tuple[FeatureSpec, ...], ...]
    scores: tuple[Mapping[str, ScoreSpec], ...]

    def specs(self, k: int) -> Iterator[Spec]:
        """All artefacts of generation k, in the order in which they can be made."""
        yield self.fits[k]
        yield from self.generated(k)
        yield from self.features[k]
        yield from self.scores[k].values()

    def generated(self, k: int) -> Iterator[SampleSpec]:
        """What generation k generates."""
        yield self.samples[k]
        yield from self.outputs[k : k + 1]


@dataclass(frozen=True)
class Experiment:
    """A recipe that has met its data: every problem that can be found before any training has been looked for."""

    recipe: Recipe
    info: Info
    counts: RowCounts
    data: DataSpec
    shared: tuple[Spec, ...]  # the real rows, feature networks and real features: the same for all arms
    lines: tuple[ArmPlan, ...]
    weights_bytes: int  # of one model

    def try_networks(self) -> None:
        """Run the networks of the user's own files once, before anything is fitted: they are code, so no check does.

        Raises MissingError when one does not give features.
        """
        for score in self.lines[0].scores[0].values():
            feature_map = getattr(score.metric, "feature_map", None)
            if score.weights is not None and isinstance(feature_map, UntriedMap):
                with asking(feature_map, "try_out"):
                    feature_map.try_out(score.weights)

    def specs(self) -> Iterator[Spec]:
        """Every artefact of the experiment once, parents first."""
        seen: set[str] = set()
        ordered = (
            *self.shared,
            *(s for k in range(self.recipe.generations + 1) for line in self.lines for s in line.specs(k)),
        )
        for spec in ordered:
            if spec.digest not in seen:
                seen.add(spec.digest)
                yield spec

    def arms(self) -> dict[str, list[str]]:
        """{digest: the arms that it is a model, samples, features or a score of}; what all share has none."""
        of: dict[str, list[str]] = {}
        for line in self.lines:
            for digest in {spec.digest for k in range(self.recipe.generations + 1) for spec in line.specs(k)}:
                of.setdefault(digest, []).append(line.arm.name)
        return of


def prepare(recipe: Recipe, data_dir: Path, machine: Machine | None = None) -> Experiment:
    """Look at the data, check everything against it, find files of weights, and lay out all specs.

    Precisions are resolved for the `machine` (None: a CPU), because fits in another one are other fits.

    Raises MissingError when data or weights are not there, RecipeError with every other problem.
    """
    with with_recipe_lines(recipe), asking(recipe.data, "inspect"):
        info = recipe.data.inspect(data_dir)
        check_info(info, recipe.data)
        info = divided(recipe.data, info)
    recipe = _found(at_precision(recipe, machine), data_dir)
    check_rows(recipe, info)
    counts = counts_of(recipe, info)
    problems = [*_misfit(recipe, "model", recipe.model, lambda: recipe.model.check(info))]
    weights = 0 if problems else check_weights(recipe, info)
    problems += _misfits(recipe, info, counts)
    problems += without_validation(recipe, info)
    plans: dict[str, tuple[Plan, ...]] = {}
    for arm in recipe.arms:
        try:
            plans[arm.name] = plans_of(arm, recipe.generations, counts)
        except StrategyError as error:
            path = f"arms.{arm.name}.data"
            problems.append(f"{recipe.where(path)}: {path}: {error}")
            continue
        problems += _ungiven(recipe, arm, plans[arm.name], counts)
    if problems:
        raise RecipeError(*problems)
    files = {name: _weights(metric, data_dir) for name, metric in recipe.metrics.items()}
    return lay_out(recipe, info, plans, files, weights)


def lay_out(
    recipe: Recipe,
    info: Info,
    plans: Mapping[str, tuple[Plan, ...]],
    files: Mapping[str, WeightsFile | None],
    weights_bytes: int = 0,
) -> Experiment:
    """All specs of a recipe whose precisions are resolved. `plans` are those of each arm, `files` the weights that each
    metric's features are read from."""
    counts = counts_of(recipe, info)
    data = data_spec(recipe.data, info)
    lines = [_line(recipe, arm, plans[arm.name], counts, data, files) for arm in recipe.arms]
    shared: dict[str, Spec] = {data.digest: data}
    for score in lines[0].scores[0].values():
        if score.network is not None:
            shared[score.network.digest] = score.network
    for line in lines:
        for spec in line.features[0]:
            if spec.which != "samples":
                shared[spec.digest] = spec
    return Experiment(recipe, info, counts, data, tuple(shared.values()), tuple(lines), weights_bytes)


def counts_of(recipe: Recipe, info: Info) -> RowCounts:
    """The sizes that strategies plan with."""
    return RowCounts(info.rows, recipe.samples or info.rows, info.pool)


def plans_of(arm: Arm, generations: int, counts: RowCounts) -> tuple[Plan, ...]:
    """What each generation of an arm is fitted to. Raises StrategyError when the rows are not there."""
    plans = [generation_zero(counts)]
    own = is_plugin(type(arm.strategy))
    for k in range(1, generations + 1):
        with asking(arm.strategy, f"plan({k}, ...)", (StrategyError,)):
            plan = arm.strategy.plan(k, counts)
            if own:
                check_plan(plan, k, counts)
        plans.append(plan)
    return tuple(plans)


@contextmanager
def with_recipe_lines(recipe: Recipe) -> Iterator[None]:
    """Problems raised within it that begin with a setting's path, as in "data.rows: ...", get its file and line."""

    def mark(problem: str) -> str:
        path = problem.partition(":")[0]
        return f"{recipe.where(path)}: {problem}" if SETTING.fullmatch(path) else problem

    try:
        yield
    except RecipeError as error:
        raise RecipeError(*map(mark, error.problems)) from error
    except MissingError as error:
        raise MissingError(mark(str(error))) from error


def _found(recipe: Recipe, data_dir: Path) -> Recipe:
    """The recipe with the files that its model and metrics read. Raises MissingError: all that are not there."""
    absent: list[str] = []

    def find(path: str, component: Found) -> Found:
        try:
            with asking(component, "resolve_files"):
                return component.resolve_files(data_dir)
        except MissingError as error:
            absent.append(f"{recipe.where(path)}: {path}: {error}")
            return component

    model = find("model", recipe.model)
    metrics = {name: find(f"metrics.{name}", metric) for name, metric in recipe.metrics.items()}
    if absent:
        raise MissingError("\n".join(absent))
    return replace(recipe, model=model, metrics=metrics)


def _weights(metric: Metric, data_dir: Path) -> WeightsFile | None:
    """The file that a metric's feature map reads its network from, if it needs one."""
    feature_map = getattr(metric, "feature_map", None)
    if not isinstance(feature_map, WeightedMap):
        return None
    with asking(feature_map, "weights"):
        return feature_map.weights(data_dir)


def _line(
    recipe: Recipe,
    arm: Arm,
    plans: tuple[Plan, ...],
    counts: RowCounts,
    data: DataSpec,
    files: Mapping[str, WeightsFile | None],
) -> ArmPlan:
    fits: list[FitSpec] = []
    samples: dict[int, SampleSpec] = {}
    outputs: list[SampleSpec] = []
    features: list[tuple[FeatureSpec, ...]] = []
    scores: list[dict[str, ScoreSpec]] = []
    key = SourcesKey(data, samples)
    for k, plan in enumerate(plans):
        train = recipe.train_of(k, arm)
        if train is not None:
            train = at_length(train, protocol_of(train, arm.protocol), plan.rows, counts.real)
        taught = k > 0 and arm.teacher is not None
        teacher = fits[arm.teacher.generation_for(k)] if taught and arm.teacher else None
        weights = arm.teacher.weights if taught and arm.teacher else None
        init = fits[k - 1] if k > 0 and arm.init == "previous" else None
        fits.append(fit_spec(k, recipe.model, train, plan, data, samples, teacher, weights, init, key=key))
        samples[k] = sample_spec(fits[k], counts.samples, recipe.sampling.shard)
        if any("outputs" in metric.needs for metric in recipe.metrics.values()):
            outputs.append(sample_spec(fits[k], data.info.held_out, recipe.sampling.shard, "held_out"))
        of_k = outputs[k] if outputs else None
        scores.append(
            {
                name: score_spec(metric, samples[k], fits[0], files[name], of_k)
                for name, metric in recipe.metrics.items()
            }
        )
        features.append(tuple(_features(scores[k])))
    later = recipe.train_of(1, arm)
    protocol = protocol_of(later, arm.protocol) if later else None
    return ArmPlan(
        arm, protocol, plans, tuple(fits), tuple(samples.values()), tuple(outputs), tuple(features), tuple(scores)
    )


def _features(scores: Mapping[str, ScoreSpec]) -> Iterator[FeatureSpec]:
    """The feature artefacts that a generation's scores read, each once."""
    yield from {spec.digest: spec for score in scores.values() for spec in score.features.values()}.values()


def _misfit(recipe: Recipe, path: str, component: object, ask: Callable[[], None]) -> Iterator[str]:
    """What a component's `check` says."""
    try:
        with asking(component, "check", (ValueError,)):
            ask()
    except ValueError as error:
        yield f"{recipe.where(path)}: {path}: {error}"


def _misfits(recipe: Recipe, info: Info, counts: RowCounts) -> Iterator[str]:
    """What the metrics and the sample count have against the data."""
    for name, metric in recipe.metrics.items():

        def ask(metric: object = metric) -> None:
            metric.check(info, recipe.model, counts.samples)  # type: ignore[attr-defined]

        yield from _misfit(recipe, f"metrics.{name}", metric, ask)
        if "outputs" in metric.needs and not conditions_of(recipe.data, recipe.model):
            yield (
                f"{recipe.where(f'metrics.{name}')}: metrics.{name}: it looks at what is generated for held-out rows, "
                "and nothing is given to this model to generate for; it is for data of pairs, or with a `prompt`"
            )
    named = [*(claim.metric for claim in recipe.claims), *(reference.metric for reference in recipe.references)]
    for name in dict.fromkeys(named):
        yield from _no_part(recipe, name, info)
    given = conditions_of(recipe.data, recipe.model)
    if given and counts.samples > info.rows:
        yield (
            f"{recipe.where('samples')}: samples: {counts.samples} is more than the {info.rows} real rows whose "
            f"{', '.join(given)} they are generated for; lower `samples` or raise `data.rows`"
        )


def _no_part(recipe: Recipe, name: str, info: Info) -> Iterator[str]:
    """What is wrong with a metric's name in a claim or a reference: it may be of a part that there is not."""
    said = part_of(name)
    if said is None or name in recipe.metrics:
        return
    metric = recipe.metrics[said[0]]
    parts: tuple[str, ...] = ()
    if isinstance(metric, PartsMetric):
        with asking(metric, "parts"):
            parts = metric.parts(info)
    if said[1] not in parts:
        allowed = f"its parts are {', '.join(parts)}" if parts else "it has none"
        yield f"{recipe.where('claims')}: {said[0]!r} has no part {said[1]!r} for a claim or a reference; {allowed}"


def _ungiven(recipe: Recipe, arm: Arm, plans: tuple[Plan, ...], counts: RowCounts) -> Iterator[str]:
    """A generation whose samples are for more rows than it was fitted to."""
    given = conditions_of(recipe.data, recipe.model)
    if not given or conditioning_of(recipe.model) != "fitted":
        return
    path = f"arms.{arm.name}.data"
    for k, plan in enumerate(plans):
        if counts.samples > plan.rows:
            yield (
                f"{recipe.where(path)}: {path}: generation {k} is fitted to {plan.rows} rows, and {counts.samples} "
                f"samples are generated for the {', '.join(given)} of the rows that it was "
                f"fitted to: lower `samples` to {plan.rows}, or let the arm take more rows"
            )
            return


def operations_per_step(experiment: Experiment) -> float:
    """Floating-point operations of an optimiser update: three times a forward pass's products; 0 for closed forms."""
    recipe, info = experiment.recipe, experiment.info
    return 3.0 * recipe.train.batch_size * forward_operations(recipe.model, info) if recipe.train else 0.0


def forward_operations(family: ModelFamily, info: Info) -> float:
    """Floating-point operations of the linear layers and convolutions in a family's prediction, a row."""
    import torch

    from collapse_sim.core.randomness import Draws

    rows = {
        name: torch.zeros(2, *shape, dtype=getattr(torch, dtype))
        for name, (shape, dtype) in info.columns.items()
        if name in family.columns
    }
    inputs = family.corrupt(rows, Draws((0,), "count", 0))
    total = 0.0

    def count(layer: nn.Module, arguments: object, output: object) -> None:
        nonlocal total
        weight = getattr(layer, "weight", None)
        if isinstance(output, torch.Tensor) and isinstance(weight, torch.Tensor) and weight.dim() > 1:
            total += 2.0 * output.numel() * weight[0].numel()

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = family.build(info)
        for layer in model.modules():
            layer.register_forward_hook(count)
        family.predict(model, inputs)
    return total / len(next(iter(inputs.tensors.values())))


def bytes_to_come(experiment: Experiment, is_missing: Callable[[Spec], int]) -> int:
    """An estimate of what the artefacts that are still missing will take on the disk: rows and weights."""
    row = experiment.info.row_bytes
    total = 0
    for spec in experiment.specs():
        seeds = is_missing(spec)
        if isinstance(spec, FitSpec):
            total += seeds * experiment.weights_bytes
        elif isinstance(spec, SampleSpec):
            total += seeds * spec.rows * row
        elif isinstance(spec, FeatureSpec) and spec.weights:
            total += seeds * spec.count * spec.weights.most_numbers * 4
        elif isinstance(spec, DataSpec):
            info = experiment.info
            total += seeds * (info.pool + info.validation + info.held_out) * row
    return total
