"""YAML with the line of every key. Scalars mean what YAML 1.2 says: 1e-4 is a number, `on` and dates are text.

Merge keys (`<<`), which YAML 1.2 no longer has, are read as in YAML 1.1, because they are in common use.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from collapse_sim.core.errors import RecipeError
from collapse_sim.recipe import marked
from collapse_sim.recipe.marked import Items, Mark, MarkedMapping
from collapse_sim.recipe.problems import Problems, value_text

_TAG = "tag:yaml.org,2002:"
_PATTERNS = {  # PyYAML follows YAML 1.1, where 1e-4 is text, 010 is 8, 1:30 is 90 and `on` is true
    "null": ("~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": ("true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": ("[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}
_MAKE: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": lambda text: int(text, 0) if text[:2] in ("0x", "0o") else int(text),
    "float": lambda text: float(re.sub(r"\.(?=inf|nan)", "", text.lower())),
    "str": str,
}


class _Loader(yaml.SafeLoader):
    """A safe loader with YAML 1.2's scalars. It only composes nodes; `_Builder` makes values from them."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own name)
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Composing is recursive, so its depth is limited here."""
        self.depth += 1
        if self.depth > marked.DEPTH:
            raise yaml.MarkedYAMLError(problem=_TOO_DEEP, problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


_DIGITS = 100  # of a whole number that is converted: Python has a limit of its own
_TOO_DEEP = f"more than {marked.DEPTH} nested mappings and lists"


for _name, (_pattern, _first) in _PATTERNS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^({_pattern})$"), _first)
_Loader.add_implicit_resolver(_TAG + "merge", re.compile("^<<$"), ["<"])


def read(path: Path, label: str, problems: Problems) -> MarkedMapping:
    """The mapping in a YAML file; `label` is how messages name the file.

    Duplicate keys and the like go to `problems`. Raises RecipeError when the file holds no mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(marked.FILE_BYTES + 1)
        if len(content) > marked.FILE_BYTES:
            raise RecipeError(f"{label}: larger than {marked.FILE_BYTES / 1e6:g} MB, too large for a recipe")
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{label}: not UTF-8 text (byte {error.start}); save the recipe as UTF-8") from error
    except OSError as error:
        raise RecipeError(f"{label}: cannot be read: {error.strerror}") from error
    value = _parse(text, label, problems)
    if isinstance(value, MarkedMapping):
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
    except (ValueError, OverflowError) as error:  # escapes of invalid characters, versions of 5,000 digits
        raise RecipeError(*problems.lines, f"{fixed or Mark(label, 1)}: not valid YAML: {error}") from error
    except _TooLargeError as error:
        raise RecipeError(*problems.lines, f"{error.args[0]}: {error.args[1]}") from None


class _TooLargeError(Exception):
    """(mark, what is too large)."""


class _Builder:
    """Turns composed nodes into MarkedMappings, Items and scalars."""

    def __init__(self, label: str, problems: Problems, fixed: Mark | None) -> None:
        self.label, self.problems, self.fixed = label, problems, fixed
        self._open: set[int] = set()  # ids of the nodes being built, which an alias may refer to
        self._built = 0

    def build(self, node: yaml.Node, path: str, mark: Mark) -> Any:
        """The value of a node that was written at `mark`."""
        kind = node.tag.removeprefix(_TAG)
        self._built += 1
        if self._built > marked.VALUES:
            raise _TooLargeError(mark, f"more than {marked.VALUES:,} values, aliases counted as what they stand for")
        if len(self._open) > marked.DEPTH:
            raise _TooLargeError(mark, _TOO_DEEP)
        if id(node) in self._open:
            self.problems.unreadable(mark, path, "this alias contains itself")
            return None
        if kind == "merge":  # `<<` as a value is text
            kind = "str"
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

    def _mapping(self, node: yaml.MappingNode, path: str, mark: Mark) -> MarkedMapping:
        block, merged = MarkedMapping(mark), MarkedMapping(mark)
        for key_node, value_node in node.value:
            mark = self._mark(key_node)
            if key_node.tag == _TAG + "merge":
                self._merge(merged, value_node, f"{path}.<<".lstrip("."), mark)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.add(mark, path, "found a list or mapping as a key; allowed: text")
                continue
            key = str(key_node.value)  # verbatim: an arm may be called `on` or `0.50`
            if not _is_encodable(key):
                self.problems.add(mark, path, f"found the key {key!a}, half of a character; allowed: text")
                continue
            inner = f"{path}.{key}".lstrip(".")
            if key in block:
                self.problems.add(
                    mark, inner, f"duplicate key {key!r}, first on line {block.marks[key].line}; keep one"
                )
                continue
            block.put(key, self.build(value_node, inner, mark), mark)
        for key in merged:
            if key not in block:
                block.put(key, merged[key], merged.marks[key])
        return block

    def _merge(self, merged: MarkedMapping, node: yaml.Node, path: str, mark: Mark) -> None:
        """Add the content of a merge key: a mapping or several, of which the first with a key determines its value."""
        value = self.build(node, path, mark)
        parts = value if isinstance(value, Items) else [value]
        for part in parts:
            if not isinstance(part, MarkedMapping):
                self.problems.add(
                    mark, path, f"found {value_text(part)}; allowed: a mapping to merge, or a list of them"
                )
                continue
            for key in part:
                if key not in merged:
                    merged.put(key, part[key], part.marks[key])

    def _scalar(self, node: yaml.ScalarNode, kind: str, path: str, mark: Mark) -> Any:
        if kind == "int" and len(node.value) > _DIGITS:
            self.problems.unreadable(
                mark, path, f"found {value_text(str(node.value))}; allowed: whole numbers below 2^63"
            )
            return None
        try:
            value = _MAKE[kind](str(node.value))
        except (ValueError, KeyError):
            self.problems.unreadable(mark, path, f"found {value_text(str(node.value))}, which is not a valid {kind}")
            return None
        if isinstance(value, int) and abs(value) >= marked.INTEGER_LIMIT:
            self.problems.unreadable(
                mark, path, f"found {value_text(str(node.value))}; allowed: whole numbers below 2^63"
            )
            return None
        if isinstance(value, str) and not _is_encodable(value):
            self.problems.unreadable(mark, path, f"found {value[:20]!a}, with half of a character; allowed: text")
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self.problems.unreadable(mark, path, f"found {node.value}; allowed: finite numbers")
            return None
        return value

    def _mark(self, node: yaml.Node) -> Mark:
        return self.fixed or Mark(self.label, node.start_mark.line + 1)


def _is_encodable(text: str) -> bool:
    """Whether a text can be encoded as UTF-8: escapes may produce lone surrogates (halves of characters)."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)
