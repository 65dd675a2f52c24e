"""`extends`, `--set` and `smoke`: one recipe laid over another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.registry import did_you_mean
from collapse_sim.recipe import marked, shipped
from collapse_sim.recipe.marked import DEPTH, Mark, MarkedMapping, Steps, dotted, split_path, without_figures
from collapse_sim.recipe.problems import Problems, value_text
from collapse_sim.recipe.python_values import tree_of
from collapse_sim.recipe.yaml_lines import read


def merge(base: MarkedMapping, over: MarkedMapping, path: Steps = ()) -> MarkedMapping:
    """`over` laid over `base`, neither changed.

    Mappings merge, key by key; anything else replaces. A mapping with `use:` replaces too, because the settings of one
    component mean nothing to another. `null` removes a key that is there.
    """
    result = base.copy()
    for key, value in over.items():
        inner, mark = (*path, key), over.marks[key]
        before = _as_mapping(base, key, inner)
        if value is None and key in base:
            result.remove(key)
        elif isinstance(value, MarkedMapping) and isinstance(before, MarkedMapping) and "use" not in value:
            result.put(key, merge(before, value, inner), base.marks[key])
        else:
            result.put(key, value, mark)
    return result


def assign(root: MarkedMapping, path: str, value: Any, mark: Mark, problems: Problems) -> MarkedMapping:
    """`root` with `value` laid over what is at the dotted `path`."""
    steps = split_path(root, path)
    if not steps or "" in steps:
        problems.add(mark, path, "a path is keys with dots between, like train.epochs")
        return root
    if len(steps) > DEPTH:
        problems.add(mark, path, f"found a path of {len(steps)} steps; allowed: at most {DEPTH}")
        return root
    node: Any = root
    for depth, step in enumerate(steps[:-1], start=1):
        node = _as_mapping(node, step, tuple(steps[:depth]))
        if node is None:
            break
        if not isinstance(node, MarkedMapping):
            message = f"{dotted(steps[:depth])} is not a mapping, so it has no {steps[depth]!r}; replace all of it"
            problems.add(mark, path, message)
            return root
    for step in reversed(steps):
        block = MarkedMapping(mark)
        block.put(str(step), value, mark)
        value = block
    return merge(root, value)


def assign_all(root: MarkedMapping, over: MarkedMapping, problems: Problems) -> MarkedMapping:
    """`root` with every entry of `over`, whose keys may be dotted paths, laid over it in order (a `smoke:` block)."""
    for key, value in over.items():
        root = assign(root, key, value, over.marks[key], problems)
    return root


def _as_mapping(parent: MarkedMapping, key: str | int, path: Steps) -> Any:
    """The value of `key`; a component given by name only ("vae") as {use: vae}, so that settings can change it."""
    value = parent.get(str(key))
    named = path in (("data",), ("model",)) or (len(path) == 3 and path[0] == "arms" and path[2] == "data")
    if not (named and isinstance(value, str)):
        return value
    block = MarkedMapping(parent.marks[str(key)])
    block.put("use", value, block.mark)
    return block


IN_PYTHON = "recipe"  # what messages call a recipe of Python values


class Layer(NamedTuple):
    """One file of a recipe, and the recipe that results from laying it over those that it extends."""

    file: Path | None  # None: Python values
    tree: MarkedMapping


def read_recipe(file: Path, problems: Problems) -> MarkedMapping:
    """The file's mapping laid over what it extends. A recipe without a name has its file's name.

    Raises RecipeError when one of the files cannot be read at all.
    """
    return read_layers(file, problems)[-1].tree


def read_layers(recipe: Path | Mapping[Any, Any], problems: Problems) -> list[Layer]:
    """The recipe at every step: the base first, then with each recipe that extends it laid over it.

    Python values extend files relative to the current folder. Raises RecipeError when one of the files cannot be read
    at all, or there are too many.
    """
    chain: list[Layer] = []
    above: Path | Mapping[Any, Any] | None = recipe
    while above is not None:
        layer = _layer(above, problems)
        chain.append(layer)
        above, tree = None, layer.tree
        if "extends" in tree:
            mark = tree.marks["extends"]
            above = _target(layer.file or Path(IN_PYTHON), tree["extends"], mark, problems)
            tree.remove("extends")
            _check_chain([*(each.file for each in chain if each.file), above], mark, problems)
    layers = [chain.pop()]
    while chain:
        file, tree = chain.pop()
        layers.append(Layer(file, without_figures(layers[-1].tree, tree, merge(layers[-1].tree, tree))))
    return layers


def _layer(recipe: Path | Mapping[Any, Any], problems: Problems) -> Layer:
    """The mapping of a file, or of Python values, alone."""
    if isinstance(recipe, Mapping):
        return Layer(None, tree_of(recipe, Mark(IN_PYTHON), problems))
    label = shipped.label(recipe)
    tree = read(recipe, label, problems)
    if "name" not in tree:
        tree.put("name", recipe.stem, Mark(label, 1))
    return Layer(recipe, tree)


def _check_chain(chain: list[Path], mark: Mark, problems: Problems) -> None:
    resolved = [link.resolve() for link in chain]
    first = resolved.index(resolved[-1])
    if first < len(chain) - 1:
        circle = " -> ".join(shipped.label(link) for link in resolved[first:])
        raise RecipeError(*problems.lines, f"{mark}: extends: is circular: {circle}")
    if len(chain) > marked.EXTENDS:
        message = f"{mark}: extends: more than {marked.EXTENDS} recipes laid over each other"
        raise RecipeError(*problems.lines, message)


def _target(file: Path, target: object, mark: Mark, problems: Problems) -> Path:
    """The file that `extends: target` in `file` refers to."""
    if isinstance(target, str) and target:
        path = file.parent / target
        if shipped.is_file(path):
            return path
        if target in shipped.names():
            return shipped.path(target)
    names = shipped.names()
    suggestion = did_you_mean(str(target), names)
    allowed = f"a file (relative to {shipped.label(file)}) or a shipped recipe: {', '.join(names)}"
    raise RecipeError(*problems.lines, f"{mark}: extends: found {value_text(target)}{suggestion}; allowed: {allowed}")
