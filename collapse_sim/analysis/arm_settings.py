"""The settings in which the arms of a run differ, as columns beside their figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

SHARED = ("model", "train", "retrain", "sampling", "samples")  # keys of a recipe that an arm may have for itself


def arm_settings(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{arm: {"data.use": "mix", "train.learning_rate": 0.001, ...}}: every arm's value of each setting in which arms
    differ, with the recipe's own where the arm has none; None where there is none at all.

    `document` is the resolved recipe, as run.json has it.
    """
    shared = {key: document[key] for key in SHARED if document.get(key) is not None}
    data = document.get("data")
    if isinstance(data, Mapping) and data.get("rows") is not None:
        shared["rows"] = data["rows"]
    by_arm = {
        arm: {
            path: json.dumps(value) if isinstance(value, list | Mapping) else value
            for path, value in leaves({**shared, **{key: value for key, value in own.items() if value is not None}})
        }
        for arm, own in document.get("arms", {}).items()
    }
    paths = dict.fromkeys(path for flat in by_arm.values() for path in flat)
    differing = [path for path in paths if len({repr(flat.get(path)) for flat in by_arm.values()}) > 1]
    return {arm: {path: flat.get(path) for path in differing} for arm, flat in by_arm.items()}


def leaves(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """("train.learning_rate", 0.001), ...: settings by their dotted paths. Lists and empty mappings are one value."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def shared_settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the arms of a recipe have in common, without the number of real rows, of which an arm may have its own, and
    that of generated ones, which follows it."""
    shared = {key: document.get(key) for key in ("data", *SHARED, "generation_0") if key != "samples"}
    if isinstance(shared["data"], Mapping):
        shared["data"] = {key: value for key, value in shared["data"].items() if key != "rows"}
    return shared
