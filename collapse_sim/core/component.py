"""What families, data, strategies and metrics share: a frozen config object whose fields are its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict


class Component(BaseModel):
    """Base of everything that a recipe names with `use:`.

    Subclasses declare their settings as fields; the docstring below a field is its help in `collapse-sim list` and in
    editors. `version` is raised whenever the same settings begin to give other
    numbers, so that stored artefacts of the old code are not taken for new ones. A setting that is added later goes
    into `added` with the value that means what the code did before: it is left out of keys while it has that value, so
    that stored artefacts keep theirs. Both hold for subclasses, too.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="strings", validate_default=True, use_attribute_docstrings=True
    )

    version: ClassVar[int] = 1
    sampling: ClassVar[tuple[str, ...]] = ()  # fields that matter to what a fitted model generates, not to its fit
    added: ClassVar[Mapping[str, Any]] = {}  # settings that came later: {name: the value, as JSON, without effect}
    not_in_key: ClassVar[tuple[str, ...]] = ()  # fields that no number depends on, such as where a file lies

    def describe(self) -> dict[str, Any]:
        """JSON of what determines this component's numbers: part of the content key of every artefact it makes.

        "use" is the name in the registry or, for a class of the user's own, "module:Class": the file that a class of
        this package stands in is not in any key.
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
        """This component with what it reads of files found, and by content in what `describe` says; most read none.

        Asked once, before anything is fitted. Raises MissingError: which file, where it was looked for, how to get it.
        """
        return self


def lacks(cls: type[Component], contract: type[Any]) -> list[str]:
    """What a class does not have of what `contract` (a protocol) asks for; nothing of it is called."""
    members = {name for base in contract.__mro__ for name in (*vars(base), *getattr(base, "__annotations__", ()))}
    there = {*dir(cls), *cls.model_fields}
    return sorted(name for name in members if not name.startswith("_") and name not in there)


def is_plugin(cls: type[object]) -> bool:
    """Whether a component's class is the user's own: defined outside of this package."""
    return cls.__module__.partition(".")[0] != "collapse_sim"
