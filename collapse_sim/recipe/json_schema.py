"""A JSON Schema (draft 2020-12) of recipes, so that editors complete keys and mark mistakes while one types.

It is made from the same pydantic models that `load` validates with. What needs more than one place to be seen (the arm
of a claim, the terms of a teacher) only `load` checks.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pydantic import BaseModel

from collapse_sim.core import registry
from collapse_sim.families.training import Train
from collapse_sim.plan.settings import Claim, Reference, Sampling, Teacher
from collapse_sim.recipe.catalogue import setting_comments
from collapse_sim.recipe.recipe_keys import ArmLayout, Layout

ROOMS = ("data", "families", "strategies", "metrics", "features")
OWN_CLASS = {"type": "string", "pattern": "^[A-Za-z_][\\w.]*:[A-Za-z_]\\w*$"}  # package.module:Class


def recipe_schema() -> dict[str, Any]:
    """The whole schema, plain JSON."""
    definitions: dict[str, Any] = {}
    for room in ROOMS:
        definitions[room] = _component(room, definitions)
    for cls in (Train, Sampling, Teacher, Claim, Reference):
        definitions[cls.__name__] = _object(cls, definitions)
    definitions["Arm"] = _arm(definitions)
    # A recipe that extends another may give parts of these only; `load` sees whether they come to something whole.
    for part in ("Train", "Sampling", "Teacher", "Reference", "Arm"):
        definitions[part].pop("required", None)
    recipe = _object(Layout, definitions)
    recipe.pop("required")
    keys = recipe["properties"]
    for key, target in (("data", "data"), ("model", "families"), ("sampling", "Sampling")):
        keys[key] |= _to(target)
    for key in ("train", "retrain"):
        keys[key] |= _or_null(_to("Train"))
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
            {"required": ["data", "model", "generations", "seeds", "arms"]},  # metrics: text brings some
        ],
        "$defs": definitions,
    }


def _to(definition: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{definition}"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """In a recipe that extends another, null removes what is there."""
    return {"anyOf": [schema, {"type": "null"}]}


def _arm(definitions: dict[str, Any]) -> dict[str, Any]:
    arm = _object(ArmLayout, definitions)
    points = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "array", "minItems": 1}}
    arm["properties"]["data"] |= _to("strategies")
    arm["properties"]["teacher"] |= _or_null(_to("Teacher"))
    arm["properties"]["retrain"] |= _or_null(_to("Train"))
    arm["properties"]["grid"]["anyOf"] = [points, {"type": "array", "minItems": 1, "items": points}]
    return arm


def _component(room: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """A name, or a mapping with `use`; a mapping without it gives single settings in a recipe that extends another."""
    classes: dict[str, type[BaseModel]] = {}
    for name in registry.names(room):
        with suppress(registry.UnknownNameError):  # an installed package's that cannot be used
            classes[name] = registry.load(room, name)
    choices: list[dict[str, Any]] = [{"type": "string", "enum": list(classes)}, OWN_CLASS]
    for name, cls in classes.items():
        settings = _object(cls, definitions)
        settings["properties"] = {"use": {"const": name}} | settings["properties"]
        settings["required"] = ["use", *settings.get("required", ())]
        choices.append(settings)
    choices.append({"type": "object", "properties": {"use": OWN_CLASS}, "required": ["use"]})
    choices.append({"type": "object", "not": {"required": ["use"]}})
    if room == "metrics":
        for choice in choices:
            if "properties" in choice:
                choice["properties"]["as"] = {"type": "string", "description": "the name the metric is shown under"}
                if "features" in choice["properties"]:
                    choice["properties"]["features"] |= {"anyOf": [_to("features")]}
    return {"oneOf": choices}


def _object(cls: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """One model's schema; models within it go to `definitions`, and comments beside fields become descriptions."""
    schema = cls.model_json_schema(ref_template="#/$defs/{model}")
    for name, inner in schema.pop("$defs", {}).items():
        definitions.setdefault(name, inner)
    comments = setting_comments(cls)
    for name, setting in schema.setdefault("properties", {}).items():
        setting.pop("title", None)
        if name in comments:
            setting.setdefault("description", comments[name])
    schema.pop("title", None)
    return schema
