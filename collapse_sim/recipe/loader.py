"""From a file's name to a validated Recipe. All problems of a recipe are raised as one RecipeError."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.registry import did_you_mean, only
from collapse_sim.plan.settings import Claim, Recipe, Reference
from collapse_sim.recipe import shipped, trust
from collapse_sim.recipe.arms import (
    claims_under,
    expand,
    known_names,
    protocols_of,
    reference_under,
    spread,
    under_name,
)
from collapse_sim.recipe.checks import Names, check_components, check_names
from collapse_sim.recipe.components import Resolver, value_name, written
from collapse_sim.recipe.extends import assign, assign_all, read_layers
from collapse_sim.recipe.marked import (
    CELLS,
    FITS,
    Items,
    Mark,
    MarkedMapping,
    as_integer,
    mark_at,
    plain,
    split_path,
    without_figures,
)
from collapse_sim.recipe.problems import Problems, shortened, value_text
from collapse_sim.recipe.resolve import ResolvedParts, metric_names, resolve, shown_name
from collapse_sim.recipe.yaml_lines import parse_value


def assemble(tree: MarkedMapping, parts: ResolvedParts) -> Recipe:
    """The Recipe of valid parts. Claims and references of arms, metrics or generations that are gone are left out."""
    assert parts.data is not None
    assert parts.model is not None
    values = parts.plain
    protocols, seeds = protocols_of(tree), values["seeds"]
    seeds = tuple(range(seeds) if isinstance(seeds, int) else seeds)
    present = Names(parts.arms, parts.metrics, values["generations"], seeds)
    claims = [claim for _, written in parts.claims for claim in claims_under(written, protocols, parts.arms)]
    references = [reference_under(reference, protocols, parts.arms) for _, reference in parts.references]
    recipe = Recipe(
        name=values["name"],
        description=values.get("description", ""),
        data=parts.data,
        model=parts.model,
        train=parts.train,
        retrain=parts.retrain,
        generation_0=parts.generation_0,
        sampling=parts.sampling,
        generations=values["generations"],
        samples=values.get("samples"),
        seeds=seeds,
        arms=tuple(parts.arms.values()),
        metrics=parts.metrics,
        baseline=_baseline(values.get("baseline"), protocols, parts.arms),
        show=_if_in(values.get("show"), parts.metrics),
        claims=tuple(_narrowed(claim, present) for claim in claims if _claim_applies(claim, present)),
        tuned_on=tuple(values["tuned_on"]) if "tuned_on" in values else None,
        references=tuple(_still_applying(references, present)),
        where=partial(_where, tree),
    )
    return replace(recipe, document=_document(tree, parts, recipe))


def _where(tree: MarkedMapping, path: str) -> str:
    return str(mark_at(tree, split_path(tree, path)))


def _document(tree: MarkedMapping, parts: ResolvedParts, recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON, every default written out, grids expanded."""
    document: dict[str, Any] = {"name": recipe.name, "description": recipe.description}
    document["data"] = written(tree["data"], parts.data)
    if recipe.has_model:
        document["model"] = written(tree["model"], parts.model)
    if recipe.train is not None:
        document["train"] = recipe.train.model_dump(mode="json")
    if recipe.retrain is not None:
        document["retrain"] = recipe.retrain.model_dump(mode="json")
    if recipe.generation_0 is not None:
        document["generation_0"] = recipe.generation_0.model_dump(mode="json", exclude_none=True)
    document["sampling"] = recipe.sampling.model_dump(mode="json")
    document |= {"samples": recipe.samples, "generations": recipe.generations, "seeds": list(recipe.seeds)}
    document["arms"] = {}
    for arm in recipe.arms:
        line: dict[str, Any] = {"data": written(tree["arms"][arm.name]["data"], arm.strategy)}
        if arm.teacher is not None:
            line["teacher"] = arm.teacher.model_dump(mode="json")
        for axis, remedy in arm.remedies().items():
            line[axis] = written(tree["arms"][arm.name][axis], remedy)
        line |= {"init": arm.init, "protocol": arm.protocol, "samples": arm.samples, "rows": arm.rows}
        if arm.rows_from is not None:
            line["rows_from"] = arm.rows_from.document()
        if arm.model is not None:
            line["model"] = written(tree["model"], arm.model)
        settings = {"train": arm.train, "retrain": arm.retrain, "sampling": arm.sampling}
        line |= {key: own.model_dump(mode="json") for key, own in settings.items() if own is not None}
        document["arms"][arm.name] = line
    document["metrics"] = []
    for name, metric in recipe.metrics.items():
        value = tree["metrics"][parts.metric_steps[name][1]]
        entry = written(value, metric)
        if name != value_name(value).rpartition(":")[2]:
            entry["as"] = name
        document["metrics"].append(entry)
    document |= {"baseline": recipe.baseline, "show": recipe.show}
    document["tuned_on"] = None if recipe.tuned_on is None else list(recipe.tuned_on)
    document["claims"] = [claim.model_dump(mode="json", exclude_none=True) for claim in recipe.claims]
    document["reference"] = [reference.model_dump(mode="json") for reference in recipe.references] or None
    return {key: plain(value) for key, value in document.items() if value is not None}


def _baseline(name: str | None, protocols: Sequence[str], arms: Container[str]) -> str | None:
    """The arm that differences are relative to: of an arm under several protocols, the first one."""
    names = [] if name is None else [name, *(under_name(name, protocol) for protocol in protocols)]
    return next((name for name in names if name in arms), None)


def _if_in(name: str | None, names: Any) -> str | None:
    return name if name in names else None


def _claim_applies(claim: Claim, present: Names) -> bool:
    """Whether everything that a claim names is still present."""
    from collapse_sim.recipe.claims import parse

    expectation = parse(claim.expect)
    generations = [*expectation.generations, claim.generation]
    return (
        present.measured(claim.metric)
        and expectation.arms <= set(present.arms)
        and all(generation <= present.generations for generation in generations if isinstance(generation, int))
        and (claim.seeds is None or not set(claim.seeds).isdisjoint(present.seeds))
    )


def _narrowed(claim: Claim, present: Names) -> Claim:
    """The claim with those of its seeds that are present."""
    if claim.seeds is None:
        return claim
    return claim.model_copy(update={"seeds": tuple(seed for seed in claim.seeds if seed in present.seeds)})


def _still_applying(references: Iterable[Reference], present: Names) -> Iterator[Reference]:
    """The references without absent arms; a reference without remaining figures is left out."""
    for reference in references:
        values = {arm: figure for arm, figure in reference.values.items() if arm in present.arms}
        if values and present.measured(reference.metric) and reference.at(present.generations) <= present.generations:
            yield reference.model_copy(update={"values": values})


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
    recipe's `smoke:` block over it. `arms` keeps only these (a grid's name means all its points). `seeds`,
    `generations` and `metrics` replace the recipe's own; a metric is the name of one of the recipe's, or any component
    as YAML. Claims and references that name something left out are left out, too. `plugins` says whether the user's own
    modules may be imported; None: all, but for a recipe in a run directory, only those that this user has run there.

    Raises RecipeError with all problems, each "file:line: path: found; allowed".
    """
    problems = Problems()
    layers = read_layers(shipped.find(reference), problems)
    with only(trust.allowed([layer.file for layer in layers], plugins, _command_line_values(overrides, metrics))):
        return _load([layer.tree for layer in layers], problems, overrides, smoke, arms, seeds, generations, metrics)


def _load(
    layers: Sequence[MarkedMapping],
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
    if isinstance(tree.get("arms"), MarkedMapping):
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


def _override(tree: MarkedMapping, overrides: Sequence[str], smoke: bool, problems: Problems) -> MarkedMapping:
    """The tree with `smoke:` (if requested) and `--set` laid over it."""
    tree = tree.copy()
    block, mark = tree.get("smoke"), tree.marks.get("smoke", tree.mark)
    if "smoke" in tree:
        tree.remove("smoke")
        if not isinstance(block, MarkedMapping):
            problems.add(mark, "smoke", f"found {value_text(block)}; allowed: a mapping of what a smoke run changes")
    elif smoke:
        problems.add(mark, "", "this recipe has no `smoke:` block, so it cannot be run with --smoke")
    if smoke and isinstance(block, MarkedMapping):
        tree = without_figures(tree, block, assign_all(tree, block, problems))
    changes, before = MarkedMapping(tree.mark), tree
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
    tree: MarkedMapping, seeds: Sequence[int], generations: int | None, metrics: Sequence[str], problems: Problems
) -> MarkedMapping:
    """The tree with the seeds, generations and metrics of the command line in place of the recipe's own."""
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
    changes = MarkedMapping(tree.mark)
    changes.put("generations", generations, Mark("--generations"))
    return without_figures(before, changes, tree)


def _command_line_values(overrides: Sequence[str], metrics: Sequence[str]) -> list[Any]:
    """The values on the command line; invalid YAML is reported later."""
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


def _names(tree: MarkedMapping) -> Names:
    """What claims may name in a tree that is not validated yet; generation 0 if it gives no valid number."""
    arms = tree.get("arms")
    names = (
        known_names(spread(expand(arms, Problems())[0], protocols_of(tree), Problems())[1])
        if isinstance(arms, MarkedMapping)
        else []
    )
    last = as_integer(tree.get("generations"))
    valid = isinstance(last, int) and not isinstance(last, bool) and last >= 1
    seeds = as_integer(tree.get("seeds"))
    listed = seeds if isinstance(seeds, list) else range(seeds) if isinstance(seeds, int) and 0 < seeds <= CELLS else ()
    numbers = [seed for each in listed if isinstance(seed := as_integer(each), int)]
    return Names(names, metric_names(tree), last if valid else 0, numbers)


def _check_seeds(resolver: Resolver, parts: ResolvedParts) -> None:
    seeds = parts.plain.get("seeds")
    if isinstance(seeds, list) and len(set(seeds)) < len(seeds):
        twice = sorted(seed for seed, count in Counter(seeds).items() if count > 1)
        resolver.problem(("seeds",), f"each seed once; found more than once: {', '.join(map(str, twice))}")


def _check_size(resolver: Resolver, parts: ResolvedParts, arms: int) -> None:
    """Check that arms x generations x seeds do not exceed what can be planned."""
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
    parts: ResolvedParts, requested: Sequence[str], origin: dict[str, str], points: dict[str, str], problems: Problems
) -> list[str]:
    """The arms to run, in the recipe's order; a name means all arms expanded from it (`grid`, `protocol`)."""
    for name in requested:
        allowed = [*dict.fromkeys([*origin, *points.values(), *origin.values()])]
        if name not in allowed:
            message = f"unknown arm {name!r}{did_you_mean(name, allowed)}; allowed: {', '.join(allowed)}"
            problems.add(Mark("--arm"), "", message)
    return [name for name in parts.arms if not requested or {name, points[name], origin[name]} & set(requested)]
