"""What is given beside a recipe: changed settings, and its seeds, generations, arms and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from collapse_sim.core.errors import RecipeError
from collapse_sim.recipe.extends import assign, assign_all
from collapse_sim.recipe.marked import Items, Mark, MarkedMapping, without_figures
from collapse_sim.recipe.problems import Problems, shortened, value_text
from collapse_sim.recipe.python_values import marked_value
from collapse_sim.recipe.yaml_lines import parse_value


class OptionNames(NamedTuple):
    """How messages name what is given beside a recipe."""

    settings: str = "--set"
    arms: str = "--arm"
    seeds: str = "--seed"
    generations: str = "--generations"
    metrics: str = "--metric"
    smoke: str = "--smoke"


COMMAND_LINE = OptionNames()
IN_PYTHON = OptionNames("settings", "arms", "seeds", "generations", "metrics", "smoke=True")


class Narrowed(NamedTuple):
    """What replaces the recipe's own arms, seeds, generations and metrics; (), None: nothing."""

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    generations: int | None
    metrics: tuple[str, ...]


def override(
    tree: MarkedMapping,
    overrides: Sequence[str] | Mapping[str, Any],
    smoke: bool,
    names: OptionNames,
    problems: Problems,
) -> MarkedMapping:
    """The tree with `smoke:` (if requested) and `--set` laid over it."""
    tree = tree.copy()
    block, mark = tree.get("smoke"), tree.marks.get("smoke", tree.mark)
    if "smoke" in tree:
        tree.remove("smoke")
        if not isinstance(block, MarkedMapping):
            problems.add(mark, "smoke", f"found {value_text(block)}; allowed: a mapping of what a smoke run changes")
    elif smoke:
        problems.add(mark, "", f"this recipe has no `smoke:` block, so it cannot be run with {names.smoke}")
    if smoke and isinstance(block, MarkedMapping):
        tree = without_figures(tree, block, assign_all(tree, block, problems))
    changes, before = MarkedMapping(tree.mark), tree
    for mark, path, value in _overrides(overrides, names, problems):
        if path.split(".")[0] in ("extends", "smoke"):
            problems.add(mark, "", "extends and smoke are for files; write a recipe with `extends:` instead")
            continue
        tree = assign(tree, path, value, mark, problems)
        changes.put(path, None, mark)
    return without_figures(before, changes, tree)


def _overrides(
    overrides: Sequence[str] | Mapping[str, Any], names: OptionNames, problems: Problems
) -> Iterator[tuple[Mark, str, Any]]:
    """(where it is given, path, value) of each change to the recipe."""
    if isinstance(overrides, Mapping):
        for path, value in overrides.items():
            mark = Mark(names.settings)
            before = len(problems)
            marked = marked_value(value, mark, problems, str(path))
            if len(problems) == before:
                yield mark, str(path).strip(), marked
        return
    for text in overrides:
        mark = Mark(f"{names.settings} {shortened(text, 80)}")
        path, equals, value = text.partition("=")
        if not equals or not path.strip() or not value.strip():
            problems.add(mark, "", "allowed: path=value, as in --set train.learning_rate=3e-4 (null removes a key)")
            continue
        yield mark, path.strip(), parse_value(value, mark, problems)


def narrow(tree: MarkedMapping, narrowed: Narrowed, names: OptionNames, problems: Problems) -> MarkedMapping:
    """The tree with the given seeds, generations and metrics in place of the recipe's own."""
    before, tree = tree, tree.copy()
    if narrowed.seeds:
        mark = Mark(names.seeds)
        tree.put("seeds", marked_value(narrowed.seeds, mark, problems, "seeds"), mark)
    if narrowed.generations is not None:
        mark = Mark(names.generations)
        tree.put("generations", marked_value(narrowed.generations, mark, problems, "generations"), mark)
    if narrowed.metrics:
        from collapse_sim.recipe.resolve import shown_name  # imports torch

        own = tree.get("metrics")
        by_name = {shown_name(value): value for value in own} if isinstance(own, Items) else {}
        items = Items(Mark(names.metrics))
        for text in narrowed.metrics:
            mark = Mark(f"{names.metrics} {shortened(text, 80)}")
            items.add(by_name[text] if text in by_name else parse_value(text, mark, problems), mark)
        tree.put("metrics", items, items.mark)
    changes = MarkedMapping(tree.mark)
    changes.put("generations", narrowed.generations, Mark(names.generations))
    return without_figures(before, changes, tree)


def given_values(overrides: Sequence[str] | Mapping[str, Any], metrics: Sequence[str]) -> list[Any]:
    """The values given beside the recipe; invalid YAML is reported later."""
    if isinstance(overrides, Mapping):
        return [*overrides.values(), *given_values((), metrics)]
    values = []
    for text in (*metrics, *(text.partition("=")[2] for text in overrides)):
        with suppress(RecipeError):
            values.append(parse_value(text, Mark("the command line"), Problems()))
    return values
