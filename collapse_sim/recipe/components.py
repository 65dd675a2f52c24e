"""From `{use: name, ...}` to the component behind the name, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

from pydantic import BaseModel

from collapse_sim.core import registry
from collapse_sim.core.component import Component, is_plugin, lacks
from collapse_sim.core.hashing import canonical_json
from collapse_sim.core.plugins import name_of, told
from collapse_sim.data.base import Data
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import FeatureMap, Metric, Need
from collapse_sim.plan.strategies import Strategy
from collapse_sim.recipe.marked import MarkedMapping, Steps, mark_at
from collapse_sim.recipe.problems import Problems, found, validate

Says = tuple[Callable[[Any], bool], str]  # (whether a value is right, what is needed)
_TEXTS: Says = (lambda value: _texts(value), "a tuple of texts")
_VERSION: Says = (lambda value: isinstance(value, int), "a whole number")
SAYS: dict[str, dict[str, Says]] = {  # what components say of themselves, by room
    "families": {"version": _VERSION, "kinds": _TEXTS, "columns": _TEXTS, "terms": _TEXTS},
    "data": {
        "version": _VERSION,
        "kind": (lambda value: isinstance(value, str), "text"),
        "seeded": (lambda value: isinstance(value, bool), "true or false"),
    },
    "strategies": {"version": _VERSION},
    "metrics": {
        "version": _VERSION,
        "kinds": (lambda value: value is None or _texts(value), "a tuple of texts, or None"),
        "better": (lambda value: value in ("lower", "higher", None), "'lower', 'higher' or None"),
        "needs": (lambda value: _texts(value) and {*value} <= {*get_args(Need)}, f"a tuple of {get_args(Need)}"),
    },
    "features": {"version": _VERSION},
}
CONTRACTS: dict[str, type[Any]] = {
    "families": ModelFamily,
    "data": Data,
    "strategies": Strategy,
    "metrics": Metric,
    "features": FeatureMap,
}


class Resolver:
    """Turns parts of one recipe into components; what is wrong goes to `problems`."""

    def __init__(self, root: MarkedMapping, origin: dict[str, str], problems: Problems) -> None:
        self.root = root
        self.problems = problems
        self._origin = origin  # expanded arm -> the arm it is written as

    def problem(self, steps: Steps, message: str) -> None:
        """A problem of the value at `steps`. An expanded arm goes by its written name: one mistake is one line."""
        written = steps
        if steps[:1] == ("arms",) and len(steps) > 1:
            written = ("arms", self._origin.get(str(steps[1]), steps[1]), *steps[2:])
        self.problems.add(mark_at(self.root, steps), ".".join(map(str, written)), message)

    def model(self, cls: type[BaseModel], value: Any, steps: Steps) -> Any:
        """`value` as an instance of `cls`, or None when it is wrong."""
        if not isinstance(value, MarkedMapping):
            self.problem(steps, f"found {found(value)}; allowed: a mapping of {', '.join(sorted(cls.model_fields))}")
            return None
        instance, complaints = validate(cls, value)
        for inner, message in complaints:
            self.problem((*steps, *inner), message)
        return instance

    def component(self, room: str, value: Any, steps: Steps) -> Any:
        """The component that `value` (a name, or a mapping with `use:`) means, or None when it is wrong."""
        names = ", ".join(registry.names(room))
        settings = value
        if isinstance(value, str):
            settings = MarkedMapping(mark_at(self.root, steps))
            settings.put("use", value, settings.mark)
        if not isinstance(settings, MarkedMapping):
            self.problem(steps, f"found {found(value)}; allowed: a name, or {{use: name, ...}}, of: {names}")
            return None
        if not isinstance(settings.get("use"), str):
            said = f"found {found(settings['use'])}" if "use" in settings else "`use:` is missing"
            self.problem((*steps, "use"), f"{said}; allowed: {names}, or your own package.module:Class")
            return None
        cls = self._load(room, settings["use"], (*steps, "use"))
        if cls is None:
            return None
        settings = settings.copy()
        for key in ("use", "as") if room == "metrics" else ("use",):
            if key in settings:
                settings.remove(key)
        return self._made(room, cls, settings, steps)

    def _made(self, room: str, cls: type[Component], settings: MarkedMapping, steps: Steps) -> Any:
        """A component of a class, or None. Whatever a user's own class does while it is made is a problem."""
        try:
            instance = self.model(cls, settings, steps)
            wrong = [] if instance is None else list(_odd(instance, room))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if not is_plugin(cls):
                raise
            self.problem(steps, f"{name_of(cls)} raised {told(error)}")
            return None
        for message in wrong:
            self.problem((*steps, "use"), f"{name_of(cls)}: {message}")
        return None if wrong else instance

    def _load(self, room: str, name: str, steps: Steps) -> type[Component] | None:
        """The class of that name, if it is of the room's kind; nothing of it is called."""
        try:
            cls = registry.load(room, name)
        except registry.UnknownNameError as error:
            self.problem(steps, str(error))
            return None
        lacking = lacks(cls, CONTRACTS[room])
        if lacking:
            kind = CONTRACTS[room].__name__
            self.problem(steps, f"{name!r} is no {kind}: it lacks {', '.join(lacking)}")
            return None
        return cls


def _odd(instance: Component, room: str) -> Iterator[str]:
    """What a user's own component says of itself that is not what its contract has."""
    if not is_plugin(type(instance)):
        return
    for name, (right, needed) in SAYS[room].items():
        value = getattr(instance, name)
        if not right(value):
            yield f"`{name}` is {found(value)}; needed: {needed}"
    for name in ("metrics", "conditions", "sampling"):
        value = getattr(instance, name, ())
        if not _texts(value):
            yield f"`{name}` is {found(value)}; needed: a tuple of texts"
    canonical_json(instance.model_dump(mode="json"))  # settings that are no plain JSON raise here


def _texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(part, str) for part in value)


def value_name(value: Any) -> str:
    """What a component as it is written uses."""
    return str(value["use"] if isinstance(value, MarkedMapping) else value)


def written(value: Any, instance: object) -> dict[str, Any]:
    """The component as plain JSON that reads back as the same: `use`, then every setting, defaults too.

    Settings that hold components themselves are kept as written, because their own dump does not say what they `use`.
    """
    assert isinstance(instance, Component)
    document: dict[str, Any] = {"use": value_name(value)}
    for name in type(instance).model_fields:
        if not _holds_component(getattr(instance, name)):
            document[name] = instance.model_dump(mode="json", include={name})[name]
        elif isinstance(value, MarkedMapping) and name in value:
            document[name] = value[name]
    return document


def _holds_component(value: Any) -> bool:
    if isinstance(value, Component):
        return True
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(_holds_component(part) for part in parts)
