"""All problems of a recipe are collected and raised at once; pydantic's messages are put into plain words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.registry import did_you_mean, load
from collapse_sim.recipe.marked import Mark, MarkedMapping, Steps, dotted, mark_at, plain, whole


class Problems:
    """Collects "file:line: path: message" lines, each once."""

    def __init__(self) -> None:
        self._found: dict[tuple[Mark, str], None] = {}
        self._unreadable: set[tuple[Mark, str]] = set()

    def __len__(self) -> int:
        return len(self._found)

    def add(self, mark: Mark, path: str, message: str) -> None:
        """One problem of the value at dotted `path` ("" for the whole recipe), written at `mark`."""
        if (mark, path) not in self._unreadable:
            path = shortened(path.replace("\n", "\\n").replace("\r", "\\r"), 200)  # a message's lines are its own
            self._found[mark, f"{path}: {message}" if path else message] = None

    def unreadable(self, mark: Mark, path: str, message: str) -> None:
        """A value that cannot be read at all, so that nothing more is to be said of it."""
        self.add(mark, path, message)
        self._unreadable.add((mark, path))

    def at(self, root: MarkedMapping, steps: Steps, message: str) -> None:
        """One problem of the value at `steps` of the recipe `root`."""
        self.add(mark_at(root, steps), dotted(steps), message)

    @property
    def lines(self) -> list[str]:
        """What was found, in the order of the files' lines; the command line's come first."""
        ordered = sorted(
            self._found, key=lambda found: (found[0].line is not None, found[0].source, found[0].line or 0)
        )
        return [f"{mark}: {text}" for mark, text in ordered]

    def raise_any(self) -> None:
        """Raise RecipeError with all of them, if there are any."""
        if self._found:
            raise RecipeError(*self.lines)


def found(value: Any) -> str:
    """A value as a message shows it: short, on one line."""
    if isinstance(value, str):
        return shortened(repr(value[:60]) if len(value) > 60 else repr(value), 60)
    return shortened(json.dumps(plain(value), ensure_ascii=False, default=str), 60)


def shortened(text: str, longest: int) -> str:
    """At most so many characters of a text."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def unknown_key(key: str, allowed: list[str], *, hint: bool = True) -> str:
    """The message for a key that is not known here."""
    near = did_you_mean(key, allowed) if hint else ""
    return f"unknown key {found(key)}{near}; allowed: {', '.join(allowed) or 'no keys at all'}"


def validate(model: type[BaseModel], value: Mapping[str, Any]) -> tuple[Any, list[tuple[Steps, str]]]:
    """(an instance or None, complaints) of `value` under `model`, strictly: "3" is no number and `true` is no 1.

    A float is a whole number where one is asked for, if it is one: 6e4 is 60000.
    """
    given = plain(value)
    try:
        return model.model_validate_json(json.dumps(given), strict=True), []
    except ValidationError as error:
        first = error
    for item in first.errors(include_url=False):
        if item["type"] == "int_type":
            _make_whole(given, _place(given, item["loc"], missing=False)[0])
    try:
        return model.model_validate_json(json.dumps(given), strict=True), []
    except ValidationError as error:
        return None, _complaints(model, given, error)


def _make_whole(value: Any, steps: Steps) -> None:
    for step in steps[:-1]:
        value = value[step]
    if steps:
        value[steps[-1]] = whole(value[steps[-1]])


def _complaints(model: type[BaseModel], value: Mapping[str, Any], error: ValidationError) -> list[tuple[Steps, str]]:
    """One message for each place: a union's members complain one by one, but are one problem."""
    wanted: dict[Steps, list[str]] = {}
    other: dict[Steps, str] = {}
    given: dict[Steps, Any] = {}
    for item in error.errors(include_url=False):
        steps, inside = _place(value, item["loc"], item["type"] == "missing")
        kind, context, given[steps] = item["type"], item.get("ctx", {}), item["input"]
        if kind == "extra_forbidden":
            allowed_keys = _keys(model, value, inside)
            hinted = len(other) < RecipeError.most  # a suggestion takes time, and of very many mistakes few are shown
            other[steps] = unknown_key(str(steps[-1]), allowed_keys, hint=hinted)
        elif kind == "missing":
            other[steps] = "missing; it has no default"
        elif kind in ("value_error", "assertion_error"):
            other[steps] = str(context["error"])
        else:
            wanted.setdefault(steps, []).append(_wanted(kind, context, item["msg"]))
    result = list(other.items())
    for steps, alternatives in wanted.items():
        if any(deeper[: len(steps)] == steps for deeper in given if len(deeper) > len(steps)):
            continue  # one member of a union could make sense of more of it: what it complains about says more
        words = [word.strip("'") for text in alternatives for word in text.split(", ") if word.startswith("'")]
        near = did_you_mean(given[steps], words) if isinstance(given[steps], str) else ""
        allowed = ", or ".join(dict.fromkeys(alternatives))
        result.append((steps, f"found {found(given[steps])}{near}; allowed: {allowed}"))
    return result


def _place(value: Any, location: tuple[str | int, ...], missing: bool) -> tuple[Steps, Steps]:
    """(the steps into `value` that pydantic's location means, those of the mapping around it).

    Pydantic adds the names of union members to its locations; what does not index into the value is one of those.
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
    """The keys that there are at `steps` of a `value` for `model`."""
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


def _wanted(kind: str, context: Mapping[str, Any], message: str) -> str:
    """What is allowed, from one of pydantic's error types; unknown types keep pydantic's own words."""
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{words} {whole(context[key])}"
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
