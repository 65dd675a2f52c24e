"""The setting `features:` of a metric: a name in the room "features", or {use: NAME, ...} with settings.

A network of one's own is {torchscript: FILE}, short for {use: torchscript, file: FILE}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, PlainSerializer, ValidationError, WithJsonSchema

from collapse_sim.core.component import is_plugin, lacks
from collapse_sim.core.plugins import name_of, told
from collapse_sim.core.registry import UnknownNameError, load
from collapse_sim.metrics.base import FeatureMap


def resolve(value: object) -> FeatureMap:
    """A name, a mapping with `use`, {torchscript: FILE}, or a feature map itself -> the feature map.

    Raises ValueError naming what there is, with the nearest name; errors in a map's settings keep their own place.
    """
    if isinstance(value, str):
        return _make(value, {})
    if isinstance(value, Mapping):
        settings = dict(value)
        if list(settings) == ["torchscript"]:
            settings = {"use": "torchscript", "file": settings["torchscript"]}
        name = settings.pop("use", None)
        if not isinstance(name, str):
            raise ValueError(f"a feature map needs `use: NAME`, found {dict(value)!r}")
        return _make(name, settings)
    if isinstance(value, FeatureMap) and not isinstance(value, type):
        return value
    raise ValueError(f"{value!r} is no feature map; allowed: a name, or a mapping with `use: NAME`")


def _make(name: str, settings: dict[str, Any]) -> FeatureMap:
    try:
        cls = load("features", name)
    except UnknownNameError as error:
        raise ValueError(str(error)) from error
    lacking = lacks(cls, FeatureMap)
    if lacking:
        raise ValueError(f"{name!r} is no feature map: it lacks {', '.join(lacking)}")
    try:
        made: Any = cls(**settings)
    except (ValidationError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if not is_plugin(cls):
            raise
        raise ValueError(f"{name_of(cls)} raised {told(error)}") from error
    return cast(FeatureMap, made)


FeatureChoice = Annotated[
    Any,  # a FeatureMap, once validated
    BeforeValidator(resolve),
    PlainSerializer(lambda chosen: chosen.describe()),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "required": ["use"]}]}),
]
