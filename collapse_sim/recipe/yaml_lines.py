"""YAML with the line of every key. Scalars mean what YAML 1.2 says: 1e-4 is a number, `on` and dates are text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from collapse_sim.errors import RecipeError
from collapse_sim.recipe.located import Block, Items, Mark
from collapse_sim.recipe.problems import Problems

_TAG = "tag:yaml.org,2002:"
_PATTERNS = {  # PyYAML follows YAML 1.1, where 1e-4 is text, 010 is 8, 1:30 is 90 and `on` is true
    "null": ("~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": ("true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": ("[-+]?[0-9]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}
_MAKE: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": int,
    "float": lambda text: float(re.sub(r"\.(?=inf|nan)", "", text.lower())),
    "str": str,
}


class _Loader(yaml.SafeLoader):
    """A safe loader with YAML 1.2's scalars. It only composes nodes; `_Builder` makes values of them."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own name)


for _name, (_pattern, _first) in _PATTERNS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^({_pattern})$"), _first)


def read(path: Path, label: str, problems: Problems) -> Block:
    """The mapping in a YAML file; `label` is how messages name the file.

    Duplicate keys and the like go to `problems`. Raises RecipeError when there is no mapping to go on with.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{label}: not UTF-8 text (byte {error.start}); save the recipe as UTF-8") from error
    except OSError as error:
        raise RecipeError(f"{label}: cannot be read: {error.strerror}") from error
    value = _parse(text, label, problems)
    if isinstance(value, Block):
        return value
    kind = "empty" if value is None else "a list" if isinstance(value, Items) else "text"
    raise RecipeError(f"{label}:1: a recipe is a mapping of keys (name, data, model, ...), but this file is {kind}")


def parse_value(text: str, mark: Mark, problems: Problems) -> Any:
    """The value of a `--set key=value`, written at `mark`."""
    return _parse(text, str(mark), problems, mark)


def _parse(text: str, label: str, problems: Problems, fixed: Mark | None = None) -> Any:
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is None:
            return None
        return _Builder(label, problems, fixed).build(node, "", fixed or Mark(label, node.start_mark.line + 1))
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        mark = fixed or Mark(label, at.line + 1 if at else 1)
        context = f" {error.context}" if error.context else ""
        raise RecipeError(*problems.lines, f"{mark}: not valid YAML: {error.problem}{context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RecipeError(*problems.lines, f"{fixed or Mark(label, line)}: not valid YAML: {error.reason}") from error


class _Builder:
    """Turns composed nodes into Blocks, Items and scalars."""

    def __init__(self, label: str, problems: Problems, fixed: Mark | None) -> None:
        self.label, self.problems, self.fixed = label, problems, fixed
        self._open: set[int] = set()  # anchors may point to what encloses them

    def build(self, node: yaml.Node, path: str, mark: Mark) -> Any:
        """The value of a node that stands at `mark`."""
        kind = node.tag.removeprefix(_TAG)
        if id(node) in self._open:
            self.problems.unreadable(mark, path, "this alias contains itself")
            return None
        if kind not in (*_MAKE, "map", "seq"):
            self.problems.unreadable(mark, path, f"found the tag {node.tag!r}; allowed: no tags")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, kind, path, mark)
        self._open.add(id(node))
        if isinstance(node, yaml.MappingNode):
            value: Any = self._mapping(node, path, mark)
        else:
            value = Items(mark)
            for index, entry in enumerate(node.value):
                value.add(self.build(entry, f"{path}.{index}".lstrip("."), self._mark(entry)), self._mark(entry))
        self._open.discard(id(node))
        return value

    def _mapping(self, node: yaml.MappingNode, path: str, mark: Mark) -> Block:
        block = Block(mark)
        for key_node, value_node in node.value:
            mark = self._mark(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.add(mark, path, "found a list or mapping as a key; allowed: text")
                continue
            key = str(key_node.value)  # verbatim: an arm may be called `on` or `0.50`
            inner = f"{path}.{key}".lstrip(".")
            if key in block:
                self.problems.add(
                    mark, inner, f"duplicate key {key!r}, first on line {block.marks[key].line}; keep one"
                )
                continue
            block.put(key, self.build(value_node, inner, mark), mark)
        return block

    def _scalar(self, node: yaml.ScalarNode, kind: str, path: str, mark: Mark) -> Any:
        try:
            value = _MAKE[kind](str(node.value))
        except (ValueError, KeyError):
            self.problems.unreadable(mark, path, f"found {node.value!r}, which is no {kind}")
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self.problems.unreadable(mark, path, f"found {node.value}; allowed: finite numbers")
            return None
        return value

    def _mark(self, node: yaml.Node) -> Mark:
        return self.fixed or Mark(self.label, node.start_mark.line + 1)
