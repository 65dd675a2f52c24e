"""Recipes given as Python values in place of YAML; messages name the key path, as there are no lines."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from collapse_sim.core.errors import RecipeError
from collapse_sim.recipe import marked
from collapse_sim.recipe.marked import Items, Mark, MarkedMapping
from collapse_sim.recipe.problems import Problems, value_text

ALLOWED = "text, whole and finite numbers, True, False, None, mappings and lists"


def tree_of(recipe: Mapping[Any, Any], mark: Mark, problems: Problems) -> MarkedMapping:
    """A recipe's mapping with all its values written at `mark`. What YAML could not have said goes to `problems`.

    Raises RecipeError when it is too deep or too large for a recipe.
    """
    tree = marked_value(recipe, mark, problems)
    assert isinstance(tree, MarkedMapping)
    return tree


def marked_value(value: Any, mark: Mark, problems: Problems, path: str = "") -> Any:
    """One value at dotted `path`, as the YAML reader would make it: tuples are lists, paths are text, and numbers of
    numpy are numbers."""
    return _FromPython(mark, problems).build(value, path, 0)


class _FromPython:
    def __init__(self, mark: Mark, problems: Problems) -> None:
        self._mark, self._problems = mark, problems
        self._built = 0

    def build(self, value: Any, path: str, depth: int) -> Any:
        self._built += 1
        if self._built > marked.VALUES:
            raise RecipeError(*self._problems.lines, f"{self._mark}: more than {marked.VALUES:,} values")
        if depth > marked.DEPTH:
            message = f"{self._mark}: {path[:60]}...: more than {marked.DEPTH} nested mappings and lists"
            raise RecipeError(*self._problems.lines, message)
        if isinstance(value, Mapping):
            block = MarkedMapping(self._mark)
            for key, own in value.items():
                inner = f"{path}.{key}".lstrip(".")
                if isinstance(key, str):
                    block.put(key, self.build(own, inner, depth + 1), self._mark)
                else:
                    self._problems.add(self._mark, path, f"found the key {key!r}; allowed: text, {str(key)!r}")
            return block
        if isinstance(value, list | tuple | range):
            items = Items(self._mark)
            for i, own in enumerate(value):
                items.add(self.build(own, f"{path}.{i}", depth + 1), self._mark)
            return items
        return self._scalar(value, path)

    def _scalar(self, value: Any, path: str) -> Any:
        if getattr(value, "shape", None) == () and hasattr(value, "item"):
            value = value.item()
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                self._problems.unreadable(self._mark, path, f"found {value[:20]!a}, with half of a character")
                return None
            return str(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            if abs(value) < marked.INTEGER_LIMIT:
                return int(value)
            self._problems.unreadable(self._mark, path, f"found {value_text(value)}; allowed: whole numbers below 2^63")
        elif isinstance(value, float):
            if math.isfinite(value):
                return float(value)
            self._problems.unreadable(self._mark, path, f"found {value}; allowed: finite numbers")
        else:
            self._problems.unreadable(
                self._mark, path, f"found a value of type {type(value).__name__}; allowed: {ALLOWED}"
            )
        return None
