"""What can be named with `use:`, described from the classes themselves: for `collapse-sim list` and for editors."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from collapse_sim.core import registry
from collapse_sim.core.component import is_plugin
from collapse_sim.core.plugins import told


@dataclass(frozen=True)
class Setting:
    """One setting of a component."""

    name: str
    default: Any  # plain JSON; None also when it is required
    required: bool
    allowed: str  # "whole number > 0", "bce | mse"
    meaning: str  # the comment beside it in the code


@dataclass(frozen=True)
class Entry:
    """One component."""

    name: str
    summary: str  # the first line of its docstring
    settings: tuple[Setting, ...]


def entries(room: str) -> list[Entry]:
    """All components of a room of the registry ("families", "data", "strategies", "metrics", "features")."""
    return [_entry(room, name) for name in registry.names(room)]


def _entry(room: str, name: str) -> Entry:
    """A plug-in that cannot be used is listed with the reason: one of an installed package's does not hide the rest."""
    try:
        cls = registry.load(room, name)
    except registry.UnknownNameError as error:
        return Entry(name, f"cannot be used: {error}", ())
    try:
        return describe(name, cls)
    except Exception as error:
        if not is_plugin(cls):
            raise
        return Entry(name, f"cannot be described: {told(error)}", ())


def describe(name: str, cls: type[BaseModel]) -> Entry:
    """One component, from its docstring, its fields and the comments beside them."""
    schema = cls.model_json_schema()
    properties, required = schema.get("properties", {}), schema.get("required", ())
    comments = setting_comments(cls)
    settings = [
        Setting(
            field,
            properties[field].get("default"),
            field in required,
            _allowed(properties[field], schema.get("$defs", {})),
            comments.get(field) or properties[field].get("description", ""),
        )
        for field in properties
    ]
    summary = (inspect.getdoc(cls) or "").partition("\n")[0]
    return Entry(name, summary, tuple(settings))


def setting_comments(cls: type[BaseModel]) -> dict[str, str]:
    """{field: the comment at the end of its line} for the fields of a class and of its bases."""
    comments: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not issubclass(base, BaseModel) or not base.__annotations__:
            continue
        try:
            lines = textwrap.dedent(inspect.getsource(base)).splitlines()
        except OSError:  # no source at hand: no comments
            continue
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.end_lineno is not None:
                line = lines[node.end_lineno - 1].encode()[node.end_col_offset or 0 :].decode()
                if line.strip().startswith("#"):
                    comments[node.target.id] = line.strip().lstrip("# ")
    return comments


_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true | false", "null": "null"}


def _allowed(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON Schema of one setting in a few words."""
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_allowed(part, definitions) for part in schema["anyOf"]))
    if "$ref" in schema:
        return _allowed(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "enum" in schema or "const" in schema:
        return " | ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "any")
    if kind == "array":
        return "list"
    if kind == "object":
        return "mapping"
    bounds = [f"{sign} {schema[key]:g}" for key, sign in _BOUNDS.items() if key in schema]
    return " ".join([_TYPES.get(kind, kind), ", ".join(bounds)]).strip()
