"""Reading a recipe file together with the recipes it extends."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.registry import did_you_mean
from collapse_sim.recipe import limits, shipped
from collapse_sim.recipe.figures import without_figures
from collapse_sim.recipe.marked import Block, Mark
from collapse_sim.recipe.merge import merge
from collapse_sim.recipe.problems import Problems, found
from collapse_sim.recipe.yaml_lines import read


class Layer(NamedTuple):
    """One file of a recipe, and the recipe as it is with this file laid over those that it extends."""

    file: Path
    tree: Block


def read_recipe(file: Path, problems: Problems) -> Block:
    """The file's mapping laid over what it extends. A recipe without a name has its file's name.

    Raises RecipeError when one of the files cannot be read at all.
    """
    return read_layers(file, problems)[-1].tree


def read_layers(file: Path, problems: Problems) -> list[Layer]:
    """The recipe as it is at every step: the one at the bottom, then with each that extends it laid over it.

    Raises RecipeError when one of the files cannot be read at all, or they are too many.
    """
    chain: list[Layer] = []
    above: Path | None = file
    while above is not None:
        file, above = above, None
        label = shipped.label(file)
        tree = read(file, label, problems)
        if "name" not in tree:
            tree.put("name", file.stem, Mark(label, 1))
        chain.append(Layer(file, tree))
        if "extends" in tree:
            mark = tree.marks["extends"]
            above = _target(file, tree["extends"], mark, problems)
            tree.remove("extends")
            _check_chain([*(layer.file for layer in chain), above], mark, problems)
    layers = [chain.pop()]
    while chain:
        file, tree = chain.pop()
        layers.append(Layer(file, without_figures(layers[-1].tree, tree, merge(layers[-1].tree, tree))))
    return layers


def _check_chain(chain: list[Path], mark: Mark, problems: Problems) -> None:
    resolved = [link.resolve() for link in chain]
    first = resolved.index(resolved[-1])
    if first < len(chain) - 1:
        circle = " -> ".join(shipped.label(link) for link in resolved[first:])
        raise RecipeError(*problems.lines, f"{mark}: extends: goes round in a circle: {circle}")
    if len(chain) > limits.EXTENDS:
        message = f"{mark}: extends: more than {limits.EXTENDS} recipes over each other"
        raise RecipeError(*problems.lines, message)


def _target(file: Path, target: object, mark: Mark, problems: Problems) -> Path:
    """The file that `extends: target` of a file means."""
    if isinstance(target, str) and target:
        beside = file.parent / target
        if shipped.is_file(beside):
            return beside
        if target in shipped.names():
            return shipped.path(target)
    names = shipped.names()
    near = did_you_mean(str(target), names)
    allowed = f"a file (relative to {shipped.label(file)}) or a shipped recipe: {', '.join(names)}"
    raise RecipeError(*problems.lines, f"{mark}: extends: found {found(target)}{near}; allowed: {allowed}")
