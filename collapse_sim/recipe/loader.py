"""From a file's name to a validated Recipe. All problems of a recipe are raised as one RecipeError."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.registry import did_you_mean, only
from collapse_sim.plan.settings import Recipe
from collapse_sim.recipe import shipped, trust
from collapse_sim.recipe.assemble import assemble
from collapse_sim.recipe.checks import Names, check_components, check_names
from collapse_sim.recipe.components import Resolver
from collapse_sim.recipe.extends import read_layers
from collapse_sim.recipe.figures import without_figures
from collapse_sim.recipe.grid import expand
from collapse_sim.recipe.limits import CELLS, FITS
from collapse_sim.recipe.marked import Block, Items, Mark, whole
from collapse_sim.recipe.merge import assign, assign_all
from collapse_sim.recipe.problems import Problems, found, shortened
from collapse_sim.recipe.protocols import known_names, protocols_of, spread
from collapse_sim.recipe.resolve import Parts, metric_names, resolve, shown_name
from collapse_sim.recipe.yaml_lines import parse_value


def load(
    reference: str | Path,
    *,
    overrides: Sequence[str] = (),
    smoke: bool = False,
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    generations: int | None = None,
    metrics: Sequence[str] = (),
    plugins: bool | None = None,
) -> Recipe:
    """Read, merge, expand, validate and check a recipe.

    `reference` is a file or the name of a shipped recipe. `overrides` are "train.learning_rate=3e-4". `smoke` lays the
    recipe's `smoke:` block over it. `arms` keeps only these (a grid's name stands for all its points), `seeds`,
    `generations` and `metrics` are used instead of the recipe's own; a metric is the name of one of the recipe's, or
    any component as YAML. Claims and references that name what was narrowed away are left out. `plugins` says whether
    modules of the user's own may be imported; None: all, but of a recipe in a run directory only those that this user
    has run there.

    Raises RecipeError with every problem that was found, each "file:line: path: found; allowed".
    """
    problems = Problems()
    layers = read_layers(shipped.find(reference), problems)
    with only(trust.allowed([layer.file for layer in layers], plugins, _said(overrides, metrics))):
        return _load([layer.tree for layer in layers], problems, overrides, smoke, arms, seeds, generations, metrics)


def _load(
    layers: Sequence[Block],
    problems: Problems,
    overrides: Sequence[str],
    smoke: bool,
    arms: Sequence[str],
    seeds: Sequence[int],
    generations: int | None,
    metrics: Sequence[str],
) -> Recipe:
    tree = _override(layers[-1], overrides, smoke, problems)
    tree = _narrow(tree, seeds, generations, metrics, problems)
    origin: dict[str, str] = {}
    points: dict[str, str] = {}
    if isinstance(tree.get("arms"), Block):
        expanded, written = expand(tree["arms"], problems)
        expanded, points = spread(expanded, protocols_of(tree), problems, tree.marks.get("protocol"))
        origin = {name: written[point] for name, point in points.items()}
        tree.put("arms", expanded, tree.marks["arms"])
    resolver = Resolver(tree, origin, problems)
    parts = resolve(resolver, narrowed=bool(metrics))
    check_components(resolver, parts)
    stages = [_names(stage) for stage in (tree, *reversed(layers))]
    known = Names(
        list(dict.fromkeys(name for stage in stages for name in stage.arms)),
        sorted({*parts.defaults, *(name for stage in stages for name in stage.metrics)}),
        max(stage.generations for stage in stages) or sys.maxsize,
        frozenset().union(*(stage.seeds for stage in stages)),
    )
    check_names(resolver, parts, known)
    _check_seeds(resolver, parts)
    chosen = _choose_arms(parts, arms, origin, points, problems)
    _check_size(resolver, parts, len(chosen))
    problems.raise_any()
    parts.arms = {name: parts.arms[name] for name in chosen}
    return assemble(tree, parts)


def _override(tree: Block, overrides: Sequence[str], smoke: bool, problems: Problems) -> Block:
    """The tree with `smoke:` (if asked for) and `--set` laid over it."""
    tree = tree.copy()
    block, mark = tree.get("smoke"), tree.marks.get("smoke", tree.mark)
    if "smoke" in tree:
        tree.remove("smoke")
        if not isinstance(block, Block):
            problems.add(mark, "smoke", f"found {found(block)}; allowed: a mapping of what a smoke run changes")
    elif smoke:
        problems.add(mark, "", "this recipe has no `smoke:` block, so it cannot be run with --smoke")
    if smoke and isinstance(block, Block):
        tree = without_figures(tree, block, assign_all(tree, block, problems))
    changes, before = Block(tree.mark), tree
    for text in overrides:
        mark = Mark(f"--set {shortened(text, 80)}")
        path, equals, value = text.partition("=")
        if not equals or not path.strip() or not value.strip():
            problems.add(mark, "", "allowed: path=value, as in --set train.learning_rate=3e-4 (null removes a key)")
            continue
        if path.split(".")[0].strip() in ("extends", "smoke"):
            problems.add(mark, "", "extends and smoke are for files; write a recipe with `extends:` instead")
            continue
        tree = assign(tree, path.strip(), parse_value(value, mark, problems), mark, problems)
        changes.put(path.strip(), None, mark)
    return without_figures(before, changes, tree)


def _narrow(
    tree: Block, seeds: Sequence[int], generations: int | None, metrics: Sequence[str], problems: Problems
) -> Block:
    """The tree with what the command line names in the place of the recipe's own."""
    before, tree = tree, tree.copy()
    if seeds:
        tree.put("seeds", _items(seeds, Mark("--seed")), Mark("--seed"))
    if generations is not None:
        tree.put("generations", generations, Mark("--generations"))
    if metrics:
        own = tree.get("metrics")
        by_name = {shown_name(value): value for value in own} if isinstance(own, Items) else {}
        items = Items(Mark("--metric"))
        for text in metrics:
            mark = Mark(f"--metric {shortened(text, 80)}")
            items.add(by_name[text] if text in by_name else parse_value(text, mark, problems), mark)
        tree.put("metrics", items, items.mark)
    said = Block(tree.mark)
    said.put("generations", generations, Mark("--generations"))
    return without_figures(before, said, tree)


def _said(overrides: Sequence[str], metrics: Sequence[str]) -> list[Any]:
    """What the command line names, as values; what is no YAML is a problem later."""
    values = []
    for text in (*metrics, *(text.partition("=")[2] for text in overrides)):
        with suppress(RecipeError):
            values.append(parse_value(text, Mark("the command line"), Problems()))
    return values


def _items(values: Sequence[Any], mark: Mark) -> Items:
    items = Items(mark)
    for value in values:
        items.add(value, mark)
    return items


def _names(tree: Block) -> Names:
    """What claims may name in a tree that is not validated yet; generation 0 where it does not say."""
    arms = tree.get("arms")
    names = (
        known_names(spread(expand(arms, Problems())[0], protocols_of(tree), Problems())[1])
        if isinstance(arms, Block)
        else []
    )
    last = whole(tree.get("generations"))
    right = isinstance(last, int) and not isinstance(last, bool) and last >= 1
    seeds = whole(tree.get("seeds"))
    listed = seeds if isinstance(seeds, list) else range(seeds) if isinstance(seeds, int) and 0 < seeds <= CELLS else ()
    there = [seed for each in listed if isinstance(seed := whole(each), int)]
    return Names(names, metric_names(tree), last if right else 0, there)


def _check_seeds(resolver: Resolver, parts: Parts) -> None:
    seeds = parts.plain.get("seeds")
    if isinstance(seeds, list) and len(set(seeds)) < len(seeds):
        twice = sorted(seed for seed, count in Counter(seeds).items() if count > 1)
        resolver.problem(("seeds",), f"each seed once; found more than once: {', '.join(map(str, twice))}")


def _check_size(resolver: Resolver, parts: Parts, arms: int) -> None:
    """The whole table is not larger than what can be planned."""
    generations, seeds = parts.plain.get("generations"), parts.plain.get("seeds", 1)
    if not isinstance(generations, int):
        return
    fits = arms * (generations + 1)
    cells = fits * (len(seeds) if isinstance(seeds, list) else seeds)
    if fits > FITS:
        message = f"{arms:,} arms x {generations + 1:,} generations are {fits:,}; allowed: at most {FITS:,}"
        resolver.problem(("generations",), message)
    elif cells > CELLS:
        message = f"{fits:,} generations of all arms x seeds are {cells:,}; allowed: at most {CELLS:,}"
        resolver.problem(("seeds",), message)


def _choose_arms(
    parts: Parts, wanted: Sequence[str], origin: dict[str, str], points: dict[str, str], problems: Problems
) -> list[str]:
    """The arms to run, in the recipe's order; a name stands for all that became of it (`grid`, `protocol`)."""
    for name in wanted:
        allowed = [*dict.fromkeys([*origin, *points.values(), *origin.values()])]
        if name not in allowed:
            message = f"unknown arm {name!r}{did_you_mean(name, allowed)}; allowed: {', '.join(allowed)}"
            problems.add(Mark("--arm"), "", message)
    return [name for name in parts.arms if not wanted or {name, points[name], origin[name]} & set(wanted)]
