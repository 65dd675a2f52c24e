"""Collects all problems of a recipe and raises them at once; rewrites pydantic's messages in plain words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.registry import did_you_mean, load
from collapse_sim.recipe.marked import Mark, MarkedMapping, Steps, as_integer, dotted, mark_at, plain


class Problems:
    """Collects "file:line: path: message" lines, each once."""

    def __init__(self) -> None:
        self._problems: dict[tuple[Mark, str], None] = {}
        self._unreadable: set[tuple[Mark, str]] = set()

    def __len__(self) -> int:
        return len(self._problems)

    def add(self, mark: Mark, path: str, message: str) -> None:
        """Add a problem of the value at dotted `path` ("" for the whole recipe), written at `mark`."""
        if (mark, path) not in self._unreadable:
            path = shortened(path.replace("\n", "\\n").replace("\r", "\\r"), 200)  # one line per message
            self._problems[mark, f"{path}: {message}" if path else message] = None

    def unreadable(self, mark: Mark, path: str, message: str) -> None:
        """Add a problem of a value that cannot be read; later problems of the same value are ignored."""
        self.add(mark, path, message)
        self._unreadable.add((mark, path))

    def at(self, root: MarkedMapping, steps: Steps, message: str) -> None:
        """Add a problem of the value at `steps` of the recipe `root`."""
        self.add(mark_at(root, steps), dotted(steps), message)

    @property
    def lines(self) -> list[str]:
        """All problems, in the order of files and lines; those of the command line come first."""
        ordered = sorted(self._problems, key=lambda item: (item[0].line is not None, item[0].source, item[0].line or 0))
        return [f"{mark}: {text}" for mark, text in ordered]

    def raise_any(self) -> None:
        """Raise RecipeError with all problems, if there are any."""
        if self._problems:
            raise RecipeError(*self.lines)


def value_text(value: Any) -> str:
    """A value for a message: short, on one line."""
    if isinstance(value, str):
        return shortened(repr(value[:60]) if len(value) > 60 else repr(value), 60)
    return shortened(json.dumps(plain(value), ensure_ascii=False, default=str), 60)


def shortened(text: str, longest: int) -> str:
    """A text cut to at most `longest` characters."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def unknown_key(key: str, allowed: list[str], *, hint: bool = True) -> str:
    """The message for a key that is not known here."""
    suggestion = did_you_mean(key, allowed) if hint else ""
    return f"unknown key {value_text(key)}{suggestion}; allowed: {', '.join(allowed) or 'no keys at all'}"


def validate(model: type[BaseModel], value: Mapping[str, Any]) -> tuple[Any, list[tuple[Steps, str]]]:
    """(an instance or None, complaints) of `value` under `model`, strictly: "3" is not a number and `true` is not 1.

    A whole float is accepted where a whole number is required: 6e4 is 60000.
    """
    document = plain(value)
    try:
        return model.model_validate_json(json.dumps(document), strict=True), []
    except ValidationError as error:
        first = error
    for item in first.errors(include_url=False):
        if item["type"] == "int_type":
            _make_integer(document, _place(document, item["loc"], missing=False)[0])
    try:
        return model.model_validate_json(json.dumps(document), strict=True), []
    except ValidationError as error:
        return None, _complaints(model, document, error)


def _make_integer(value: Any, steps: Steps) -> None:
    for step in steps[:-1]:
        value = value[step]
    if steps:
        value[steps[-1]] = as_integer(value[steps[-1]])


def _complaints(model: type[BaseModel], value: Mapping[str, Any], error: ValidationError) -> list[tuple[Steps, str]]:
    """One message per value: the members of a union report one by one, but are one problem."""
    alternatives: dict[Steps, list[str]] = {}
    messages: dict[Steps, str] = {}
    inputs: dict[Steps, Any] = {}
    for item in error.errors(include_url=False):
        steps, inside = _place(value, item["loc"], item["type"] == "missing")
        kind, context, inputs[steps] = item["type"], item.get("ctx", {}), item["input"]
        if kind == "extra_forbidden":
            allowed_keys = _keys(model, value, inside)
            # A suggestion takes time, and of very many mistakes only the first are shown.
            hinted = len(messages) < RecipeError.most
            messages[steps] = unknown_key(str(steps[-1]), allowed_keys, hint=hinted)
        elif kind == "missing":
            messages[steps] = "missing; it has no default"
        elif kind in ("value_error", "assertion_error"):
            messages[steps] = str(context["error"])
        else:
            alternatives.setdefault(steps, []).append(_allowed(kind, context, item["msg"]))
    result = list(messages.items())
    for steps, texts in alternatives.items():
        if any(deeper[: len(steps)] == steps for deeper in inputs if len(deeper) > len(steps)):
            continue  # another member of the union matches more of the value: its message is more specific
        words = [word.strip("'") for text in texts for word in text.split(", ") if word.startswith("'")]
        suggestion = did_you_mean(inputs[steps], words) if isinstance(inputs[steps], str) else ""
        allowed = ", or ".join(dict.fromkeys(texts))
        result.append((steps, f"found {value_text(inputs[steps])}{suggestion}; allowed: {allowed}"))
    return result


def _place(value: Any, location: tuple[str | int, ...], missing: bool) -> tuple[Steps, Steps]:
    """(the steps into `value` for pydantic's location, the steps of the enclosing mapping).

    Pydantic adds the names of union members to its locations: these are the parts that do not index into the value.
    """
    steps: list[str | int] = []
    for step in location[:-1] if missing else location:
        if _holds(value, step):
            value = value[step]
            steps.append(step)
    if missing:
        steps.append(location[-1])
    return tuple(steps), tuple(steps[:-1])


def _holds(value: Any, step: str | int) -> bool:
    if isinstance(value, Mapping):
        return step in value
    return isinstance(value, list) and isinstance(step, int) and step < len(value)


def _keys(model: type[BaseModel], value: Any, steps: Steps) -> list[str]:
    """The allowed keys at `steps` of a `value` for `model`."""
    for step in steps:
        value = value[step]
        if not isinstance(step, str) or step not in model.model_fields:
            continue
        if step == "features" and isinstance(value, Mapping):  # the one setting that is itself chosen with `use:`
            return [*load("features", value["use"]).model_fields, "use"] if "use" in value else ["file", "use"]
        model = next(iter(_models(model.model_fields[step].annotation)), model)
    return sorted(model.model_fields)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models within a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "model": "a mapping",
    "none": "null",
}
_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}


def _allowed(kind: str, context: Mapping[str, Any], message: str) -> str:
    """What is allowed, from one of pydantic's error types; for unknown types, pydantic's own message."""
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{words} {as_integer(context[key])}"
    if kind == "literal_error":
        return str(context["expected"]).replace(" or ", ", ")
    if kind == "string_too_long":
        return f"at most {context['max_length']} characters"
    if kind == "too_short":
        return f"at least {context['min_length']} entries"
    if kind == "too_long":
        return f"at most {context['max_length']} entries"
    if kind == "string_pattern_mismatch":
        return f"text that fits {context['pattern']}"
    if kind == "finite_number":
        return "a finite number"
    return _TYPES.get(kind.split("_")[0], message[0].lower() + message[1:])
