"""Base class of families, data, strategies and metrics: a frozen config object whose fields are its settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict


class Component(BaseModel):
    """Base of everything that a recipe names with `use:`.

    Subclasses declare their settings as fields; the docstring below a field is its help in `collapse-sim list` and in
    editors. Raise `version` whenever the same settings begin to give other numbers, so that stored artefacts of the
    old code are not reused. A setting that is added later goes into `added` with the value that reproduces the former
    behaviour: it is left out of keys while it has that value, so that stored artefacts keep their keys. Both apply to
    subclasses, too.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="strings", validate_default=True, use_attribute_docstrings=True
    )

    version: ClassVar[int] = 1
    sampling: ClassVar[tuple[str, ...]] = ()  # fields that affect what a fitted model generates, not its fit
    sampler_version: ClassVar[int] = 1  # of a family: raised when it samples otherwise; in the keys of samples only
    added: ClassVar[Mapping[str, Any]] = {}  # settings added later: {name: the value, as JSON, without effect}
    not_in_key: ClassVar[tuple[str, ...]] = ()  # fields that no number depends on, such as a file's location

    def describe(self) -> dict[str, Any]:
        """JSON of what determines this component's numbers: part of the content key of every artefact it makes.

        "use" is the name in the registry or, for a user-defined class, "module:Class". The file that defines a class of
        this package is not part of any key.
        """
        from collapse_sim.core.registry import identity

        cls = type(self)
        settings = self.model_dump(mode="json")
        for base in cls.__mro__:
            for name in vars(base).get("not_in_key", ()):
                settings.pop(name, None)
            for name, neutral in vars(base).get("added", {}).items():
                if name in settings and settings[name] == neutral:
                    del settings[name]
        return {"use": identity(cls), "version": cls.version, **settings}

    def resolve_files(self, data_dir: Path) -> Self:
        """This component with its files located, and named by content in `describe`; most components read no files.

        Called once, before anything is fitted. Raises MissingError: which file, where it was searched, how to get it.
        """
        return self


def missing_members(cls: type[Component], contract: type[Any]) -> list[str]:
    """The public members of `contract` (a protocol) that a class lacks; nothing of the class is called."""
    members = {name for base in contract.__mro__ for name in (*vars(base), *getattr(base, "__annotations__", ()))}
    available = {*dir(cls), *cls.model_fields}
    return sorted(name for name in members if not name.startswith("_") and name not in available)


def is_plugin(cls: type[object] | FunctionType) -> bool:
    """Whether a component's class, or a function, is user-defined: outside of this package."""
    return cls.__module__.partition(".")[0] != "collapse_sim"
