"""From `{use: name, ...}` to the component behind the name, and back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from collapse_sim import registry
from collapse_sim.component import Component
from collapse_sim.data.base import Data
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.base import FeatureMap, Metric
from collapse_sim.recipe.located import Block, Steps, mark_at
from collapse_sim.recipe.problems import Problems, found, validate
from collapse_sim.strategies import Strategy

CONTRACTS: dict[str, type[Any]] = {
    "families": ModelFamily,
    "data": Data,
    "strategies": Strategy,
    "metrics": Metric,
    "features": FeatureMap,
}


class Resolver:
    """Turns parts of one recipe into components; what is wrong goes to `problems`."""

    def __init__(self, root: Block, origin: dict[str, str], problems: Problems) -> None:
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
        if not isinstance(value, Block):
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
            settings = Block(mark_at(self.root, steps))
            settings.put("use", value, settings.mark)
        if not isinstance(settings, Block):
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
        instance = self.model(cls, settings, steps)
        lacking = [] if instance is None else lacks(instance, CONTRACTS[room])
        if lacking:
            kind = CONTRACTS[room].__name__
            self.problem((*steps, "use"), f"{value_name(value)!r} is no {kind}: it lacks {', '.join(lacking)}")
            return None
        return instance

    def _load(self, room: str, name: str, steps: Steps) -> type[Component] | None:
        here = str(Path.cwd())
        if ":" in name and here not in sys.path:
            sys.path.append(here)  # a module beside the recipe works at once, however the program was started
        try:
            cls = registry.load(room, name)
        except registry.UnknownNameError as error:
            self.problem(steps, str(error))
        except Exception as error:  # whatever a user's own module does while it is imported
            self.problem(steps, f"cannot import {name!r}: {type(error).__name__}: {error}")
        else:
            if isinstance(cls, type) and issubclass(cls, Component):
                return cls
            self.problem(steps, f"{name!r} is no subclass of collapse_sim.component.Component")
        return None


def lacks(instance: Any, contract: type[Any]) -> list[str]:
    """What `instance` does not have of what `contract` (a protocol) asks for."""
    members = {name for base in contract.__mro__ for name in (*vars(base), *getattr(base, "__annotations__", ()))}
    return sorted(name for name in members if not name.startswith("_") and not hasattr(instance, name))


def value_name(value: Any) -> str:
    """What a component as it is written uses."""
    return str(value["use"] if isinstance(value, Block) else value)


def written(value: Any, instance: object) -> dict[str, Any]:
    """The component as plain JSON that reads back as the same: `use`, then every setting, defaults too.

    Settings that hold components themselves are kept as written, because their own dump does not say what they `use`.
    """
    assert isinstance(instance, Component)
    document: dict[str, Any] = {"use": value_name(value)}
    for name in type(instance).model_fields:
        if not _holds_component(getattr(instance, name)):
            document[name] = instance.model_dump(mode="json", include={name})[name]
        elif isinstance(value, Block) and name in value:
            document[name] = value[name]
    return document


def _holds_component(value: Any) -> bool:
    if isinstance(value, Component):
        return True
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(_holds_component(part) for part in parts)
