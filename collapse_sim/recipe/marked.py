"""The content of a recipe file, with the line of each value; limits of recipes, and whole numbers written as floats."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Mark(NamedTuple):
    """Where a value was written: a line of a file, or a command-line option (no line)."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


class MarkedMapping(dict[str, Any]):
    """A mapping; `marks` says where each key was written. Values are MarkedMappings, Items and scalars."""

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.marks: dict[str, Mark] = {}

    def put(self, key: str, value: Any, mark: Mark) -> None:
        """Set `key`, written at `mark`."""
        self[key] = value
        self.marks[key] = mark

    def remove(self, key: str) -> None:
        del self[key]
        del self.marks[key]

    def copy(self) -> MarkedMapping:
        """A shallow copy: its keys can be changed without changing this one's."""
        twin = MarkedMapping(self.mark)
        twin.update(self)
        twin.marks.update(self.marks)
        return twin


class Items(list[Any]):
    """A list; `marks` says where each entry was written."""

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.marks: list[Mark] = []

    def add(self, value: Any, mark: Mark) -> None:
        self.append(value)
        self.marks.append(mark)

    def copy(self) -> Items:
        """A shallow copy."""
        twin = Items(self.mark)
        twin.extend(self)
        twin.marks.extend(self.marks)
        return twin


Steps = tuple[str | int, ...]  # ("arms", "distill", "teacher") or ("metrics", 1, "use")


def plain(value: Any) -> Any:
    """The same value as ordinary dicts and lists."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def as_integer(value: Any) -> Any:
    """A whole float as an int: `samples: 6e4` is a whole number, though YAML reads it as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < INTEGER_LIMIT else value


def mark_at(root: MarkedMapping, steps: Iterable[str | int]) -> Mark:
    """Where the value at `steps` was written, or else the nearest enclosing value that exists."""
    mark, node = root.mark, root
    for step in steps:
        if isinstance(node, MarkedMapping) and step in node.marks:
            mark, node = node.marks[str(step)], node[str(step)]
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node):
            mark, node = node.marks[step], node[step]
        else:
            break
    return mark


def split_path(root: Any, path: str) -> list[str | int]:
    """The steps of a dotted path. Existing keys may contain dots; then the longest matching key is one step."""
    steps: list[str | int] = []
    node, rest = root, path
    while rest:
        keys = node if isinstance(node, Mapping) else ()
        step = max((key for key in keys if f"{rest}.".startswith(f"{key}.")), key=len, default=rest.partition(".")[0])
        rest = rest[len(step) + 1 :]
        if isinstance(node, list) and step.isdecimal():
            steps.append(int(step))
            node = node[int(step)] if int(step) < len(node) else None
        else:
            steps.append(step)
            node = node.get(step) if isinstance(node, Mapping) else None
    return steps


def dotted(steps: Iterable[str | int]) -> str:
    """("metrics", 1, "use") -> "metrics.1.use"."""
    return ".".join(str(step) for step in steps)


FILE_BYTES = 1_000_000  # of one recipe file
EXTENDS = 16  # recipes laid over each other
VALUES = 100_000  # of one recipe, each alias counted as what it stands for
DEPTH = 40  # of nested mappings and lists, and of a path's steps
INTEGER_LIMIT = 2**63  # whole numbers must be smaller
ARMS = 1_000  # with grids expanded
GENERATIONS = 5_000
METRICS = 200
CLAIMS = 1_000
FITS = 50_000  # arms x generations
CELLS = 10_000_000  # arms x generations x seeds
RECIPE_NAME = 100  # characters
ARM_NAME = 300
METRIC_NAME = 100


# What figures depend on, besides arms and metrics.
SIZE = ("data", "model", "train", "retrain", "protocol", "samples", "generation_0")
logger = logging.getLogger(__name__)


def without_figures(below: MarkedMapping, over: MarkedMapping, merged: MarkedMapping) -> MarkedMapping:
    """`merged` (`over` laid over `below`), without a `reference` whose figures no longer apply, because `over` changes
    the experiment's size.

    `over` keeps it by setting the `reference` (or a part of it) itself. Another number of generations removes figures
    of the last one, and keeps those of a numbered generation.
    """
    reference = below.get("reference")
    if not isinstance(reference, MarkedMapping | Items) or any(key.partition(".")[0] == "reference" for key in over):
        return merged
    remaining = _numbered(reference)
    changed = [key for key in SIZE if _differs(below, merged, key)]
    if changed:
        remaining = None
    elif remaining is not reference and _differs(below, merged, "generations"):
        changed = ["generations"]
    if not changed or "reference" not in merged:
        return merged
    result = merged.copy()
    if remaining is None:
        result.remove("reference")
    else:
        result.put("reference", remaining, merged.marks["reference"])
    where = next((over.marks[key] for key in over if key.partition(".")[0] == changed[0]), over.mark)
    logger.info("%s: changes `%s`, so the published figures (`reference`) are left out", where, changed[0])
    return result


def _numbered(reference: MarkedMapping | Items) -> MarkedMapping | Items | None:
    """The figures that are not of the last generation: `reference` itself if none is, None if all are."""
    if isinstance(reference, MarkedMapping):
        return None if _of_last(reference) else reference
    remaining = Items(reference.mark)
    for entry, mark in zip(reference, reference.marks, strict=True):
        if not _of_last(entry):
            remaining.add(entry, mark)
    return reference if len(remaining) == len(reference) else remaining or None


def _of_last(entry: object) -> bool:
    return isinstance(entry, MarkedMapping) and entry.get("generation", "last") == "last"


def _differs(below: MarkedMapping, merged: MarkedMapping, key: str) -> bool:
    return bool(plain(below.get(key)) != plain(merged.get(key)))
