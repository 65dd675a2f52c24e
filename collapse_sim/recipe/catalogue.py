"""What a recipe can use, with settings and defaults: for `collapse-sim list`, and as a JSON schema for editors."""

from __future__ import annotations

import inspect
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from collapse_sim.core import registry
from collapse_sim.core.component import Component, is_plugin
from collapse_sim.core.plugins import error_text
from collapse_sim.families.training import Train
from collapse_sim.plan.settings import Claim, GenerationZero, Reference, Sampling, Teacher
from collapse_sim.recipe.remedy_families import families_of
from collapse_sim.recipe.resolve import ArmLayout, RecipeKeys


@dataclass(frozen=True)
class Setting:
    """One setting of a component."""

    name: str
    default: Any  # plain JSON; None also when it is required
    required: bool
    allowed: str  # "whole number > 0", "bce | mse"
    meaning: str  # the docstring below it in the code


@dataclass(frozen=True)
class ComponentEntry:
    """One component."""

    name: str
    summary: str  # the first line of its docstring
    settings: tuple[Setting, ...]
    families: tuple[str, ...] | None = None  # of a remedy: those that it works for (remedy_families.py)


def entries(group: str) -> list[ComponentEntry]:
    """All components of a group of the registry ("families", "data", "strategies", "metrics", "features")."""
    return [_entry(group, name) for name in registry.names(group)]


def _entry(group: str, name: str) -> ComponentEntry:
    """One component. An unusable plug-in is listed with the reason, so that it does not hide the other components."""
    try:
        cls = registry.load(group, name)
    except registry.UnknownNameError as error:
        return ComponentEntry(name, f"cannot be used: {error}", ())
    try:
        return describe(name, cls, group)
    except Exception as error:
        if not is_plugin(cls):
            raise
        return ComponentEntry(name, f"cannot be described: {error_text(error)}", ())


def describe(name: str, cls: type[Component], group: str) -> ComponentEntry:
    """One component, from its docstring, its fields and their docstrings."""
    schema = cls.model_json_schema()
    properties, required = schema.get("properties", {}), schema.get("required", ())
    settings = [
        Setting(
            field,
            properties[field].get("default"),
            field in required,
            _allowed(properties[field], schema.get("$defs", {})),
            properties[field].get("description", ""),
        )
        for field in properties
    ]
    summary = (inspect.getdoc(cls) or "").partition("\n")[0]
    families = families_of(cls) if group in registry.REMEDIES else None
    return ComponentEntry(name, summary, tuple(settings), families)


_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true | false", "null": "null"}


def _allowed(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What a setting's JSON Schema allows, in a few words."""
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


GROUPS = ("data", "families", "strategies", *registry.REMEDIES, "metrics", "features")
OWN_CLASS = {"type": "string", "pattern": "^[A-Za-z_][\\w.]*:[A-Za-z_]\\w*$"}  # package.module:Class


def recipe_schema() -> dict[str, Any]:
    """The whole schema, plain JSON."""
    definitions: dict[str, Any] = {}
    for group in GROUPS:
        definitions[group] = _component(group, definitions)
    for cls in (Train, GenerationZero, Sampling, Teacher, Claim, Reference):
        definitions[cls.__name__] = _object(cls, definitions)
    definitions["Arm"] = _arm(definitions)
    # A recipe that extends another may give only parts of these; `load` checks whether the result is complete.
    for part in ("Train", "GenerationZero", "Sampling", "Teacher", "Reference", "Arm"):
        definitions[part].pop("required", None)
    recipe = _object(RecipeKeys, definitions)
    recipe.pop("required")
    keys = recipe["properties"]
    for key, target in (("data", "data"), ("model", "families"), ("sampling", "Sampling")):
        keys[key] |= _to(target)
    for key in ("train", "retrain"):
        keys[key] |= _or_null(_to("Train"))
    keys["generation_0"] |= _or_null(_to("GenerationZero"))
    several = {"type": "array", "items": _to("Reference")}
    keys["reference"] |= {"anyOf": [_to("Reference"), several, {"type": "null"}]}
    keys["arms"]["additionalProperties"] = _or_null(_to("Arm"))
    keys["metrics"]["items"] = _to("metrics")
    keys["claims"]["items"] = _to("Claim")
    keys["extends"]["type"] = "string"
    keys["smoke"]["type"] = "object"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "collapse-sim recipe",
        **recipe,
        "anyOf": [
            {"required": ["extends"]},
            {"required": ["data", "generations", "seeds", "arms"]},  # not metrics and model: `load` knows when
        ],
        "$defs": definitions,
    }


def _to(definition: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{definition}"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """In a recipe that extends another, null removes the inherited value."""
    return {"anyOf": [schema, {"type": "null"}]}


def _arm(definitions: dict[str, Any]) -> dict[str, Any]:
    arm = _object(ArmLayout, definitions)
    points = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "array", "minItems": 1}}
    arm["properties"]["data"] |= _to("strategies")
    arm["properties"]["teacher"] |= _or_null(_to("Teacher"))
    for axis in registry.REMEDIES:
        arm["properties"][axis] |= _or_null(_to(axis))
    arm["properties"]["model"] |= _or_null(_to("families"))
    arm["properties"]["sampling"] |= _or_null(_to("Sampling"))
    for key in ("train", "retrain"):
        arm["properties"][key] |= _or_null(_to("Train"))
    paths = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}}
    arm["properties"]["rows_from"]["anyOf"] = [{"type": "string"}, paths, {"type": "null"}]
    arm["properties"]["grid"]["anyOf"] = [points, {"type": "array", "minItems": 1, "items": points}]
    return arm


def _component(group: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """A name, or a mapping with `use`; a mapping without it gives single settings in a recipe that extends another."""
    classes: dict[str, type[BaseModel]] = {}
    for name in registry.names(group):
        with suppress(registry.UnknownNameError):  # an unusable plug-in of an installed package
            classes[name] = registry.load(group, name)
    choices: list[dict[str, Any]] = [{"type": "string", "enum": list(classes)}, OWN_CLASS]
    for name, cls in classes.items():
        settings = _object(cls, definitions)
        settings["properties"] = {"use": {"const": name}} | settings["properties"]
        settings["required"] = ["use", *settings.get("required", ())]
        choices.append(settings)
    choices.append({"type": "object", "properties": {"use": OWN_CLASS}, "required": ["use"]})
    choices.append({"type": "object", "not": {"required": ["use"]}})
    if group == "metrics":
        for choice in choices:
            if "properties" in choice:
                choice["properties"]["as"] = {"type": "string", "description": "the name the metric is shown under"}
                if "features" in choice["properties"]:
                    choice["properties"]["features"] |= {"anyOf": [_to("features")]}
    return {"oneOf": choices}


def _object(cls: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """One model's schema; models within it go to `definitions`, and docstrings below fields become descriptions."""
    schema = cls.model_json_schema(ref_template="#/$defs/{model}")
    for name, inner in schema.pop("$defs", {}).items():
        definitions.setdefault(name, inner)
    for setting in schema.setdefault("properties", {}).values():
        setting.pop("title", None)
    schema.pop("title", None)
    return schema
