"""From `{use: name, ...}` to the component of that name, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

from pydantic import BaseModel

from collapse_sim.core import registry
from collapse_sim.core.component import Component, is_plugin, missing_members
from collapse_sim.core.hashing import canonical_json
from collapse_sim.core.plugins import error_text, name_of
from collapse_sim.data.base import Data
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import FeatureMap, Metric, Need
from collapse_sim.plan.strategies import Strategy
from collapse_sim.recipe.marked import MarkedMapping, Steps, mark_at
from collapse_sim.recipe.problems import Problems, validate, value_text
from collapse_sim.remedies.base import Curation, Guidance, Merge, Weighting

Rule = tuple[Callable[[Any], bool], str]  # (whether a value is valid, what is needed)
_TEXTS: Rule = (lambda value: _texts(value), "a tuple of texts")
_VERSION: Rule = (lambda value: isinstance(value, int), "a whole number")
CLASS_VARIABLES: dict[str, dict[str, Rule]] = {  # what components declare about themselves, by group
    "families": {"version": _VERSION, "kinds": _TEXTS, "columns": _TEXTS, "terms": _TEXTS},
    "data": {
        "version": _VERSION,
        "kind": (lambda value: isinstance(value, str), "text"),
        "seeded": (lambda value: isinstance(value, bool), "true or false"),
    },
    "strategies": {"version": _VERSION},
    "curation": {"version": _VERSION},
    "weighting": {"version": _VERSION},
    "merge": {"version": _VERSION},
    "guidance": {"version": _VERSION},
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
    "curation": Curation,
    "weighting": Weighting,
    "merge": Merge,
    "guidance": Guidance,
    "metrics": Metric,
    "features": FeatureMap,
}


class Resolver:
    """Turns parts of one recipe into components; mistakes are added to `problems`."""

    def __init__(self, root: MarkedMapping, origin: dict[str, str], problems: Problems) -> None:
        self.root = root
        self.problems = problems
        self._origin = origin  # expanded arm -> its name in the file

    def problem(self, steps: Steps, message: str) -> None:
        """Add a problem of the value at `steps`. An expanded arm has its name in the file: one mistake is one line."""
        written = steps
        if steps[:1] == ("arms",) and len(steps) > 1:
            written = ("arms", self._origin.get(str(steps[1]), steps[1]), *steps[2:])
        self.problems.add(mark_at(self.root, steps), ".".join(map(str, written)), message)

    def model(self, cls: type[BaseModel], value: Any, steps: Steps) -> Any:
        """`value` as an instance of `cls`, or None when it is invalid."""
        if not isinstance(value, MarkedMapping):
            self.problem(
                steps, f"found {value_text(value)}; allowed: a mapping of {', '.join(sorted(cls.model_fields))}"
            )
            return None
        instance, complaints = validate(cls, value)
        for inner, message in complaints:
            self.problem((*steps, *inner), message)
        return instance

    def component(self, group: str, value: Any, steps: Steps) -> Any:
        """The component for `value` (a name, or a mapping with `use:`), or None when it is invalid."""
        names = ", ".join(registry.names(group))
        settings = value
        if isinstance(value, str):
            settings = MarkedMapping(mark_at(self.root, steps))
            settings.put("use", value, settings.mark)
        if not isinstance(settings, MarkedMapping):
            self.problem(steps, f"found {value_text(value)}; allowed: a name, or {{use: name, ...}}, of: {names}")
            return None
        if not isinstance(settings.get("use"), str):
            fault = f"found {value_text(settings['use'])}" if "use" in settings else "`use:` is missing"
            self.problem((*steps, "use"), f"{fault}; allowed: {names}, or your own package.module:Class")
            return None
        cls = self._load(group, settings["use"], (*steps, "use"))
        if cls is None:
            return None
        settings = settings.copy()
        for key in ("use", "as") if group == "metrics" else ("use",):
            if key in settings:
                settings.remove(key)
        return self._instance(group, cls, settings, steps)

    def _instance(self, group: str, cls: type[Component], settings: MarkedMapping, steps: Steps) -> Any:
        """An instance of a component class, or None. Exceptions of user-defined classes are problems of the recipe."""
        try:
            instance = self.model(cls, settings, steps)
            mistakes = [] if instance is None else list(_contract_mistakes(instance, group))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if not is_plugin(cls):
                raise
            self.problem(steps, f"{name_of(cls)} raised {error_text(error)}")
            return None
        for message in mistakes:
            self.problem((*steps, "use"), f"{name_of(cls)}: {message}")
        return None if mistakes else instance

    def _load(self, group: str, name: str, steps: Steps) -> type[Component] | None:
        """The class of that name, if it has the members that its group needs; nothing of the class is called."""
        try:
            cls = registry.load(group, name)
        except registry.UnknownNameError as error:
            self.problem(steps, str(error))
            return None
        lacking = missing_members(cls, CONTRACTS[group])
        if lacking:
            kind = CONTRACTS[group].__name__
            self.problem(steps, f"{name!r} is not a {kind}: it lacks {', '.join(lacking)}")
            return None
        return cls


def _contract_mistakes(instance: Component, group: str) -> Iterator[str]:
    """Class variables and settings of a user-defined component that break its contract, in words."""
    if not is_plugin(type(instance)):
        return
    for name, (valid, needed) in CLASS_VARIABLES[group].items():
        value = getattr(instance, name)
        if not valid(value):
            yield f"`{name}` is {value_text(value)}; needed: {needed}"
    for name in ("metrics", "conditions", "sampling"):
        value = getattr(instance, name, ())
        if not _texts(value):
            yield f"`{name}` is {value_text(value)}; needed: a tuple of texts"
    canonical_json(instance.model_dump(mode="json"))  # settings that are not plain JSON raise here


def _texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(part, str) for part in value)


def value_name(value: Any) -> str:
    """The `use` of a component as written in a recipe."""
    return str(value["use"] if isinstance(value, MarkedMapping) else value)


def written(value: Any, instance: object) -> dict[str, Any]:
    """The component as plain JSON that loads as the same component: `use`, then all settings with defaults.

    Settings that contain components are kept as written, because their own dump does not contain their `use`.
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
