"""Rows from files: an arm's `rows_from`, and recipes without a model, in which all rows are from files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from string import Formatter
from typing import Any

from collapse_sim.core.registry import REMEDIES
from collapse_sim.data.base import Data
from collapse_sim.families.elsewhere import Elsewhere, elsewhere
from collapse_sim.plan.settings import RowsFrom
from collapse_sim.recipe.components import Resolver
from collapse_sim.recipe.marked import MarkedMapping, Steps
from collapse_sim.recipe.problems import value_text

PLACES = ("generation", "seed")
WIDTH = re.compile(r"(0?[1-9][0-9]?)?d?")  # of a number in a path: {generation:03d}
OF_FITS = ("train", "retrain", "protocol")
OF_MODELS = (*OF_FITS, "model", "teacher", *REMEDIES)  # an arm's settings that only a fit or a model's samples have
BY_MODEL = {  # what a metric needs and only a model gives
    "model": "the model of each generation",
    "origin": "the model of generation 0",
    "outputs": "what a model generates for held-out rows",
}
ALLOWED = "a path with {generation}, and {seed} where seeds have files of their own, or {generation: path}"


def rows_from(resolver: Resolver, value: Any, steps: Steps) -> RowsFrom | None:
    """An arm's `rows_from`; None, with its problems added, when it is invalid."""
    before = len(resolver.problems)
    paths: dict[int, str] = {}
    if isinstance(value, str):
        if "generation" not in _checked(resolver, value, steps):
            resolver.problem(steps, f"found {value_text(value)}, the same rows for all generations; allowed: {ALLOWED}")
    elif isinstance(value, MarkedMapping) and value:
        for key, path in value.items():
            if not key.isdecimal() or len(key) > 9:
                resolver.problem((*steps, key), f"found the key {value_text(key)}; allowed: a generation's number")
            elif not isinstance(path, str) or not path:
                resolver.problem((*steps, key), f"found {value_text(path)}; allowed: a path")
            else:
                _checked(resolver, path, (*steps, key))
                paths[int(key)] = path
    else:
        resolver.problem(steps, f"found {value_text(value)}; allowed: {ALLOWED}")
    if len(resolver.problems) > before:
        return None
    return RowsFrom(value if isinstance(value, str) else paths)


def _checked(resolver: Resolver, path: str, steps: Steps) -> set[str]:
    """The places in a path; what is wrong with them is added to the problems."""
    try:
        parts = [part for part in Formatter().parse(path) if part[1] is not None]
    except ValueError as error:
        resolver.problem(steps, f"found {value_text(path)}: {error}; a brace that is part of a name is written twice")
        return set(PLACES)
    for _, name, width, conversion in parts:
        if name not in PLACES or conversion or not WIDTH.fullmatch(width or ""):
            shown = f"{{{name}{'!' + conversion if conversion else ''}{':' + width if width else ''}}}"
            allowed = "{generation} and {seed}, with a width as in {generation:03d}; a brace of a name is written twice"
            resolver.problem(steps, f"found {value_text(shown)} in {value_text(path)}; allowed: {allowed}")
    return {str(name) for _, name, _, _ in parts}


def without_model(tree: MarkedMapping, data: Data | None) -> Elsewhere | None:
    """What stands in place of the model of a recipe that has none; None unless all of its arms have `rows_from`.

    Its arms need no strategy, which then changes nothing: they get `replace`.
    """
    arms = tree.get("arms")
    if tree.get("model") is not None or not isinstance(arms, MarkedMapping) or not arms:
        return None
    if not all(isinstance(arm, MarkedMapping) and arm.get("rows_from") is not None for arm in arms.values()):
        return None
    for name, arm in list(arms.items()):
        if "data" not in arm:
            complete = arm.copy()
            complete.put("data", "replace", arm.mark)
            arms.put(name, complete, arms.marks[name])
    return elsewhere(data)


def check_without_model(resolver: Resolver, metrics: Mapping[str, tuple[Steps, Collection[str]]]) -> None:
    """In a recipe without a model nothing is fitted or generated, and no metric needs a model.

    `metrics`: {shown name: (where it is written, what it needs)}.
    """
    tree = resolver.root
    for steps in _of_models(tree):
        resolver.problem(steps, "there is no `model`, so nothing is fitted or generated; remove it, or add `model`")
    for name, (steps, needs) in metrics.items():
        wanted = [what for need, what in BY_MODEL.items() if need in needs]
        if wanted:
            message = (
                f"{name!r} needs {' and '.join(wanted)}, and this recipe has no `model`; allowed: metrics of samples"
            )
            resolver.problem(steps, message)


def _of_models(tree: MarkedMapping) -> Iterator[Steps]:
    """Settings that need a model."""
    yield from ((key,) for key in OF_FITS if tree.get(key) is not None)
    for name, arm in tree["arms"].items():
        yield from (("arms", name, key) for key in OF_MODELS if arm.get(key) is not None)
        if arm.get("init", "fresh") != "fresh":
            yield ("arms", name, "init")


def check_generations(resolver: Resolver, name: str, rows: RowsFrom, last: int, known: int, *, model: bool) -> None:
    """The generations with files are among those of the recipe, which has `known` before `--generations` has shortened
    it to `last`; without a model, all of them have files."""
    if isinstance(rows.paths, str):
        return
    steps: Steps = ("arms", name, "rows_from")
    for k in rows.paths:
        if k > known:
            resolver.problem((*steps, str(k)), f"there is no generation {k}; allowed: 0 to {known}")
    absent = [k for k in range(last + 1) if k not in rows.paths]
    if absent and not model:
        shown = ", ".join(map(str, absent[:10])) + ", ..." * (len(absent) > 10)
        resolver.problem(steps, f"no files for generation {shown}, and there is no `model` that could generate rows")
