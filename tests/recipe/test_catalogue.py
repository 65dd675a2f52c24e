"""The JSON Schema for editors says what `load` says, as far as a schema can."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from collapse_sim.core import registry
from collapse_sim.families.training import Train
from collapse_sim.recipe import shipped
from collapse_sim.recipe.catalogue import GROUPS, recipe_schema
from collapse_sim.recipe.marked import plain
from collapse_sim.recipe.problems import Problems
from collapse_sim.recipe.yaml_lines import read

SCHEMA = recipe_schema()


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value fits, for the keywords that the schema uses. Unknown keywords fail, so none is ignored."""
    known = {"$schema", "$defs", "title", "description", "default"}
    checks = {
        "$ref": lambda target: fits(value, SCHEMA["$defs"][target.removeprefix("#/$defs/")]),
        "anyOf": lambda parts: any(fits(value, part) for part in parts),
        "oneOf": lambda parts: sum(fits(value, part) for part in parts) == 1,
        "not": lambda part: not fits(value, part),
        "enum": lambda allowed: value in allowed,
        "const": lambda allowed: value == allowed,
        "type": lambda kind: _is(value, kind),
        "required": lambda keys: not isinstance(value, dict) or set(keys) <= set(value),
        "properties": lambda keys: (
            not isinstance(value, dict) or all(fits(value[key], keys[key]) for key in keys if key in value)
        ),
        "additionalProperties": lambda rest: not isinstance(value, dict) or _rest_fits(value, schema, rest),
        "items": lambda item: not isinstance(value, list) or all(fits(entry, item) for entry in value),
        "prefixItems": lambda items: not isinstance(value, list) or all(map(fits, value, items)),
        "minItems": lambda least: not isinstance(value, list) or len(value) >= least,
        "maxItems": lambda most: not isinstance(value, list) or len(value) <= most,
        "minProperties": lambda least: not isinstance(value, dict) or len(value) >= least,
        "minimum": lambda least: not _number(value) or value >= least,
        "maximum": lambda most: not _number(value) or value <= most,
        "multipleOf": lambda unit: not _number(value) or value % unit == 0,
        "exclusiveMinimum": lambda least: not _number(value) or value > least,
        "exclusiveMaximum": lambda most: not _number(value) or value < most,
        "minLength": lambda least: not isinstance(value, str) or len(value) >= least,
        "maxLength": lambda most: not isinstance(value, str) or len(value) <= most,
        "pattern": lambda pattern: not isinstance(value, str) or __import__("re").search(pattern, value) is not None,
    }
    return all(key in known or checks[key](argument) for key, argument in schema.items())


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is(value: Any, kind: str) -> bool:
    kinds = {"string": str, "object": dict, "array": list, "boolean": bool, "null": type(None)}
    if kind == "number":
        return _number(value)
    if kind == "integer":
        return _number(value) and value == int(value)
    return isinstance(value, kinds[kind])


def _rest_fits(value: dict[str, Any], schema: dict[str, Any], rest: Any) -> bool:
    others = [value[key] for key in value if key not in schema.get("properties", {})]
    return not others if rest is False else rest is True or all(fits(other, rest) for other in others)


def recipe(name: str) -> dict[str, Any]:
    path = shipped.path(name)
    result: dict[str, Any] = plain(read(path, str(path), Problems()))
    return result


def test_it_is_plain_json_of_the_right_draft() -> None:
    assert json.loads(json.dumps(SCHEMA, allow_nan=False)) == SCHEMA
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("name", shipped.names())
def test_shipped_recipes_fit(name: str) -> None:
    assert fits(recipe(name), SCHEMA)


@pytest.mark.parametrize("group", GROUPS)
def test_every_component_is_there_with_every_setting(group: str) -> None:
    by_name = {
        choice["properties"]["use"]["const"]: choice
        for choice in SCHEMA["$defs"][group]["oneOf"]
        if "const" in choice.get("properties", {}).get("use", {})
    }
    assert sorted(by_name) == registry.names(group)
    for name, choice in by_name.items():
        settings = set(choice["properties"]) - {"use", "as"}
        assert settings == set(registry.load(group, name).model_fields)
        assert choice["additionalProperties"] is False


def test_descriptions_come_along() -> None:
    assert SCHEMA["$defs"]["Train"]["properties"]["batch_size"]["description"] == "Rows per update."
    assert set(SCHEMA["$defs"]["Train"]["properties"]) == set(Train.model_fields)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["nmae"], "x"),
        (["generations"], 0),
        (["generations"], "five"),
        (["seeds"], []),
        (["data"], "digts"),
        (["data"], {"use": "digits", "siez": 8}),
        (["model", "hidden"], 0),
        (["model", "hiden"], 5),
        (["train", "optimizer"], "adm"),
        (["train", "batchsize"], 3),
        (["arms", "replace", "data"], "replase"),
        (["arms", "replace", "init"], "last"),
        (["arms", "replace", "grid"], {"data": 3}),
        (["arms", "distill", "teacher", "weights", "output"], -1),
        (["metrics"], []),
        (["metrics"], [{"use": "fid", "features": {"use": "clasifier"}}]),
        (["claims"], [{"that": "x", "metric": "fid"}]),
        (["reference"], {"sauce": "x"}),
        (["reference"], [{"sauce": "x"}]),
    ],
)
def test_mistakes_do_not_fit(path: list[str], value: Any) -> None:
    changed = copy.deepcopy(recipe("quickstart"))
    here = changed
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = value
    assert not fits(changed, SCHEMA)


@pytest.mark.parametrize(
    "value", ["my.module:Thing", {"use": "my.module:Thing", "anything": 1}, {"use": "cifar10"}, "digits"]
)
def test_own_classes_and_names_fit(value: Any) -> None:
    assert fits(recipe("quickstart") | {"data": value}, SCHEMA)


def test_what_is_missing_is_fine_only_in_a_recipe_that_extends() -> None:
    assert not fits({"seeds": 3}, SCHEMA)
    assert fits({"extends": "quickstart", "seeds": 3, "model": {"hidden": 5}, "arms": {"distill": None}}, SCHEMA)


def test_every_setting_says_what_it_means() -> None:
    """Of every component and of every key of a recipe: a docstring below the field in the code."""
    objects = {name: entry for name, entry in SCHEMA["$defs"].items() if "properties" in entry}
    for group in GROUPS:
        for name in registry.names(group):
            objects[f"{group}.{name}"] = registry.load(group, name).model_json_schema()
    silent = [
        f"{where}.{key}"
        for where, entry in {**objects, "recipe": SCHEMA}.items()
        for key, setting in entry["properties"].items()
        if not setting.get("description") and "const" not in setting and key not in ("use", "as")
    ]
    assert silent == []
    assert len(objects) > 60
