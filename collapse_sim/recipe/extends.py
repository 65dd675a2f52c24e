"""Reading a recipe file together with the recipes it extends."""

from __future__ import annotations

from pathlib import Path

from collapse_sim.errors import RecipeError
from collapse_sim.recipe import shipped
from collapse_sim.recipe.located import Block, Mark
from collapse_sim.recipe.merge import merge
from collapse_sim.recipe.problems import Problems, found
from collapse_sim.recipe.yaml_lines import read
from collapse_sim.registry import did_you_mean


def read_recipe(file: Path, problems: Problems) -> Block:
    """The file's mapping laid over what it extends. A recipe without a name has its file's name.

    Raises RecipeError when one of the files cannot be read at all.
    """
    return read_layers(file, problems)[-1]


def read_layers(file: Path, problems: Problems, inside: tuple[Path, ...] = ()) -> list[Block]:
    """The recipe as it is at every step: the one at the bottom, then with each that extends it laid over it."""
    label = shipped.label(file)
    tree = read(file, label, problems)
    if "name" not in tree:
        tree.put("name", file.stem, Mark(label, 1))
    if "extends" not in tree:
        return [tree]
    target, mark = tree["extends"], tree.marks["extends"]
    tree.remove("extends")
    chain = (*inside, file.resolve())
    base = _target(file, target)
    if base is None:
        names = shipped.names()
        near = did_you_mean(str(target), names)
        allowed = f"a file (relative to {label}) or a shipped recipe: {', '.join(names)}"
        raise RecipeError(*problems.lines, f"{mark}: extends: found {found(target)}{near}; allowed: {allowed}")
    if base.resolve() in chain:
        circle = " -> ".join(shipped.label(link) for link in (*chain[chain.index(base.resolve()) :], base.resolve()))
        raise RecipeError(*problems.lines, f"{mark}: extends: goes round in a circle: {circle}")
    layers = read_layers(base, problems, chain)
    return [*layers, merge(layers[-1], tree)]


def _target(file: Path, target: object) -> Path | None:
    if not isinstance(target, str) or not target:
        return None
    beside = file.parent / target
    if beside.is_file():
        return beside
    return shipped.path(target) if target in shipped.names() else None
