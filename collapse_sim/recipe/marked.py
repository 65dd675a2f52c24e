"""Plain recipe values (mappings, lists, scalars) that remember where each of them was written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from collapse_sim.recipe.limits import WHOLE


class Mark(NamedTuple):
    """Where something was written: a line of a file, or a command-line option (no line)."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


class Block(dict[str, Any]):
    """A mapping; `marks` says where each key was written. Values are Blocks, Items and scalars."""

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

    def copy(self) -> Block:
        """A shallow copy: its keys can be changed without changing this one's."""
        twin = Block(self.mark)
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


def whole(value: Any) -> Any:
    """A whole float as an int: `samples: 6e4` is a whole number, though YAML reads a float."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < WHOLE else value


def mark_at(root: Block, steps: Iterable[str | int]) -> Mark:
    """Where the value at `steps` was written, or the nearest enclosing one that is there."""
    mark, here = root.mark, root
    for step in steps:
        if isinstance(here, Block) and step in here.marks:
            mark, here = here.marks[str(step)], here[str(step)]
        elif isinstance(here, Items) and isinstance(step, int) and step < len(here):
            mark, here = here.marks[step], here[step]
        else:
            break
    return mark


def split_path(root: Any, path: str) -> list[str | int]:
    """The steps of a dotted path. Where keys that exist hold dots themselves, the longest one that fits is a step."""
    steps: list[str | int] = []
    here, rest = root, path
    while rest:
        keys = here if isinstance(here, Mapping) else ()
        step = max((key for key in keys if f"{rest}.".startswith(f"{key}.")), key=len, default=rest.partition(".")[0])
        rest = rest[len(step) + 1 :]
        if isinstance(here, list) and step.isdecimal():
            steps.append(int(step))
            here = here[int(step)] if int(step) < len(here) else None
        else:
            steps.append(step)
            here = here.get(step) if isinstance(here, Mapping) else None
    return steps


def dotted(steps: Iterable[str | int]) -> str:
    """("metrics", 1, "use") -> "metrics.1.use"."""
    return ".".join(str(step) for step in steps)
