"""Checks a recipe against its data before anything is made; each problem names the recipe line that it comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.core.plugins import name_of, plugin_errors
from collapse_sim.data.base import Info, conditions_of
from collapse_sim.data.sources import REAL, Plan, RowCounts
from collapse_sim.families.hooks import conditioning_of, conditions_are_reused
from collapse_sim.metrics.base import PartsMetric
from collapse_sim.metrics.names import part_of
from collapse_sim.plan.settings import Arm, Recipe
from collapse_sim.remedies.base import KeepsSubset, RowWeighting, TokenWeighting

SETTING = re.compile(r"(data|train)\.\w+")


@contextmanager
def with_recipe_lines(recipe: Recipe) -> Iterator[None]:
    """Add file and line to problems raised inside it that begin with a setting's path, as in "data.rows: ..."."""

    def mark(problem: str) -> str:
        path = problem.partition(":")[0]
        return f"{recipe.where(path)}: {problem}" if SETTING.fullmatch(path) else problem

    try:
        yield
    except RecipeError as error:
        raise RecipeError(*map(mark, error.problems)) from error
    except MissingError as error:
        raise MissingError(mark(str(error))) from error


def misfit(recipe: Recipe, path: str, component: object, ask: Callable[[], None]) -> Iterator[str]:
    """The problem that a component's `check` reports."""
    try:
        with plugin_errors(component, "check", (ValueError,)):
            ask()
    except ValueError as error:
        yield f"{recipe.where(path)}: {path}: {error}"


def metric_misfits(recipe: Recipe, info: Info, counts: RowCounts, arm: Arm | None = None) -> Iterator[str]:
    """Conflicts of the metrics and the sample count with the data; with an arm, under that arm's settings."""
    for name, metric in recipe.metrics.items():

        def ask(metric: object = metric) -> None:
            metric.check(info, recipe.model, counts.samples)  # type: ignore[attr-defined]

        yield from misfit(recipe, f"metrics.{name}", metric, ask)
        if "outputs" in metric.needs and not conditions_of(recipe.data, recipe.model):
            yield (
                f"{recipe.where(f'metrics.{name}')}: metrics.{name}: it uses what is generated for held-out rows, but "
                "this model generates without conditions; it needs data of pairs, or a `prompt`"
            )
    named = [*(claim.metric for claim in recipe.claims), *(reference.metric for reference in recipe.references)]
    for name in dict.fromkeys(named):
        yield from _unknown_part(recipe, name, info)
    conditions = conditions_of(recipe.data, recipe.model)
    if conditions and counts.samples > info.rows and not conditions_are_reused(recipe.model):
        path = f"arms.{arm.name}.samples" if arm is not None and arm.samples else "samples"
        yield (
            f"{recipe.where(path)}: {path}: {counts.samples} is more than the {info.rows} real rows whose "
            f"{', '.join(conditions)} they are generated for; lower `samples` or raise `data.rows`"
        )


def _unknown_part(recipe: Recipe, name: str, info: Info) -> Iterator[str]:
    """The problem with a metric's name in a claim or a reference when the metric lacks the part that it names."""
    named = part_of(name)
    if named is None or name in recipe.metrics:
        return
    metric_name, part = named
    metric = recipe.metrics[metric_name]
    parts: tuple[str, ...] = ()
    if isinstance(metric, PartsMetric):
        with plugin_errors(metric, "parts"):
            parts = metric.parts(info)
    if part not in parts:
        allowed = f"its parts are {', '.join(parts)}" if parts else "it has none"
        yield f"{recipe.where('claims')}: {metric_name!r} has no part {part!r} for a claim or a reference; {allowed}"


def conditions_beyond(
    recipe: Recipe, arm: Arm, plans: Sequence[Plan], samples: Sequence[int], counts: RowCounts
) -> Iterator[str]:
    """The problem with the first generation that generates more rows than there are rows to generate them for.

    `samples`: how many rows each generation generates. metric_misfits reports a `counts.samples` that is too large.
    """
    conditions = conditions_of(recipe.data, recipe.model)
    if not conditions or conditions_are_reused(recipe.model):
        return
    path, names = f"arms.{arm.name}.data", ", ".join(conditions)
    fitted = conditioning_of(recipe.model) == "fitted"
    for k, (plan, rows) in enumerate(zip(plans, samples, strict=True)):
        if fitted and rows > plan.rows:
            yield (
                f"{recipe.where(path)}: {path}: generation {k} is fitted to {plan.rows} rows, and {rows} "
                f"samples are generated for the {names} of the rows that it was "
                f"fitted to: lower `samples` to {plan.rows}, or let the arm take more rows"
            )
            return
        if not fitted and rows > max(counts.samples, counts.real):
            yield (
                f"{recipe.where(path)}: {path}: generation {k} would generate {rows} samples, more than the "
                f"{counts.real} real rows whose {names} they are generated for; let numbers grow less, raise "
                "`data.rows`, or choose data without conditions"
            )
            return


def weighting_misfits(recipe: Recipe, arm: Arm, plans: Sequence[Plan]) -> Iterator[str]:
    """The problems of an arm's weighting with its rows and with how it is fitted; `recipe` has the arm's settings."""
    weighting = arm.weighting
    if weighting is None:
        return
    path = f"arms.{arm.name}.weighting"
    yield from misfit(recipe, path, weighting, partial(weighting.check_plans, plans))
    if not isinstance(weighting, RowWeighting | TokenWeighting):
        lacking = f"{name_of(type(weighting))} lacks `of_rows` (of rows) or `factors` (of tokens)"
        yield f"{recipe.where(path)}: {path}: {lacking}"
    trains = [train for train in (recipe.train, recipe.retrain) if train is not None]
    if isinstance(weighting, TokenWeighting) and weighting.renormalise and any(t.accumulate > 1 for t in trains):
        yield (
            f"{recipe.where(path)}: {path}: renormalise divides by the tokens that count in a whole batch, which "
            "micro-batches do not know; set train.accumulate: 1, or renormalise: false"
        )


def curation_misfits(recipe: Recipe, arm: Arm, plans: Sequence[Plan]) -> Iterator[str]:
    """The problem with a curation that changes no generation of an arm."""
    curation = arm.curation
    if curation is None:
        return
    path = f"arms.{arm.name}.curation"
    later = plans[1:]
    if not any(source.generation != REAL and source.rows for plan in later for source in plan.sources):
        yield (
            f"{recipe.where(path)}: {path}: no generation of this arm is fitted to generated rows, so it changes "
            "nothing; remove it"
        )
    elif curation.pool == "past" and isinstance(curation, KeepsSubset) and curation.keeps_subset:
        offered = [sum(source.rows for source in plan.sources) for plan in later]
        if offered == [plan.rows for plan in later]:
            yield (
                f"{recipe.where(path)}: {path}: with `pool: past` every generation keeps as many rows as this strategy "
                "offers, so it changes nothing: use `data: accumulate`, raise `samples`, or use `pool: generation`"
            )
