"""Laying one part of a recipe over another: `extends:`, `smoke:` and `--set` all follow the rules of `merge`."""

from __future__ import annotations

from typing import Any

from collapse_sim.recipe.limits import DEPTH
from collapse_sim.recipe.marked import Block, Mark, Steps, dotted, split_path
from collapse_sim.recipe.problems import Problems


def merge(base: Block, over: Block, path: Steps = ()) -> Block:
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
        elif isinstance(value, Block) and isinstance(before, Block) and "use" not in value:
            result.put(key, merge(before, value, inner), base.marks[key])
        else:
            result.put(key, value, mark)
    return result


def assign(root: Block, path: str, value: Any, mark: Mark, problems: Problems) -> Block:
    """`root` with `value` laid over what is at the dotted `path`."""
    steps = split_path(root, path)
    if not steps or "" in steps:
        problems.add(mark, path, "a path is keys with dots between, like train.epochs")
        return root
    if len(steps) > DEPTH:
        problems.add(mark, path, f"found a path of {len(steps)} steps; allowed: at most {DEPTH}")
        return root
    here: Any = root
    for depth, step in enumerate(steps[:-1], start=1):
        here = _as_mapping(here, step, tuple(steps[:depth]))
        if here is None:
            break
        if not isinstance(here, Block):
            problems.add(
                mark, path, f"{dotted(steps[:depth])} is no mapping, so it has no {steps[depth]!r}; replace it whole"
            )
            return root
    for step in reversed(steps):
        block = Block(mark)
        block.put(str(step), value, mark)
        value = block
    return merge(root, value)


def assign_all(root: Block, over: Block, problems: Problems) -> Block:
    """`root` with every entry of `over`, whose keys may be dotted paths, laid over it in order (a `smoke:` block)."""
    for key, value in over.items():
        root = assign(root, key, value, over.marks[key], problems)
    return root


def _as_mapping(parent: Block, key: str | int, path: Steps) -> Any:
    """The value of `key`; a component that is only named ("vae") as {use: vae}, so that settings go over it."""
    value = parent.get(str(key))
    named = path in (("data",), ("model",)) or (len(path) == 3 and path[0] == "arms" and path[2] == "data")
    if not (named and isinstance(value, str)):
        return value
    block = Block(parent.marks[str(key)])
    block.put("use", value, block.mark)
    return block
