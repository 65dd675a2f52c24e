"""Which families a remedy works for, found out by asking its `check` about every family and kind of data."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import ValidationError

from collapse_sim.core import registry
from collapse_sim.core.component import Component
from collapse_sim.core.errors import PluginError
from collapse_sim.core.plugins import plugin_errors
from collapse_sim.data.base import Data, Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.hooks import OnlyForMetrics
from collapse_sim.remedies.base import Remedy

DATA = ("gaussian", "linear", "digits", "grammar", "grammar_pairs")  # one of each kind
MOLECULES = Info(
    "molecules",
    {"positions": ((3, 3), "float32"), "atoms": ((3,), "uint8"), "bonds": ((3, 3), "uint8"), "molecule": ((), "int64")},
    rows=10,
    pool=20,
    held_out=10,
)
ALL = "all"


class Variant(NamedTuple):
    """A family with its default settings, or with one other choice."""

    family: ModelFamily
    choice: str  # "sampler: ddim"; "": the default ones


def families_of(cls: type[Component]) -> tuple[str, ...]:
    """Names of the families that a remedy accepts on some data, each with the choice that it needs, if any:
    ("gaussian", "ddpm (sampler: ddim)"); ("all",) for every family.

    A remedy is asked with its default settings, or with its `examples` (HasExamples). One that fails is for none.
    """
    remedies = list(_examples(cls))
    accepted = []
    for name, variants in _families().items():
        fitting = (v.choice for v in variants if any(_fits(remedy, v.family) for remedy in remedies))
        choice = next(fitting, None)
        if choice is not None:
            accepted.append(f"{name} ({choice})" if choice else name)
    return (ALL,) if accepted == list(_families()) else tuple(accepted)


def _examples(cls: type[Component]) -> Iterator[Any]:
    examples: tuple[Mapping[str, Any], ...] = getattr(cls, "examples", ({},))
    for settings in examples:
        with suppress(ValidationError):
            yield cls(**settings)


def _fits(remedy: Remedy, family: ModelFamily) -> bool:
    for data, info in _data():
        if data.kind not in family.kinds:
            continue
        with suppress(ValueError, PluginError):
            family.check(info)
            with plugin_errors(remedy, "check", (ValueError,)):
                remedy.check(data, info, family)
            return True
    return False


@functools.cache
def _data() -> tuple[tuple[Data, Info], ...]:
    every: list[Any] = [registry.load("data", name)() for name in DATA]
    inspected = tuple((data, _larger(data.inspect(Path("data")))) for data in every)
    conformers: Any = registry.load("data", "conformers")  # whose inspection takes an extra
    return (*inspected, (conformers(molecules=("CC", "CO")), MOLECULES))


def _larger(info: Info) -> Info:
    """Images of a size that every family takes."""
    if "image" not in info.columns:
        return info
    return replace(info, columns={**info.columns, "image": ((1, 32, 32), "uint8")})


@functools.cache
def _families() -> Mapping[str, tuple[Variant, ...]]:
    """The built-in families that generate: by name, each with its default settings first."""
    classes = {name: registry.load("families", name) for name in registry.BUILT_IN["families"]}
    every = {name: tuple(_variants(cls)) for name, cls in sorted(classes.items())}
    return {name: of for name, of in every.items() if not isinstance(of[0].family, OnlyForMetrics)}


def _variants(cls: type[Any]) -> Iterator[Variant]:
    """Default settings (or the first single choice that makes them valid), and every other single choice over them."""
    choices = [(field, choice) for field, of in cls.model_fields.items() for choice in _choices(of.annotation)]
    base: dict[str, Any] = {}
    for settings in ({}, *({field: choice} for field, choice in choices)):
        with suppress(ValidationError):
            family = cls(**settings)
            base = settings
            yield Variant(family, "")
            break
    for field, choice in choices:
        with suppress(ValidationError):
            yield Variant(cls(**{**base, field: choice}), f"{field}: {choice}")


def _choices(annotation: Any) -> tuple[Any, ...]:
    """The values of a setting's Literal types."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(choice for part in get_args(annotation) for choice in _choices(part))
