"""Events of a run: plain records that do not change and are JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, get_args, get_type_hints

import pytest

from collapse_sim.core import events

CLASSES = [cls for cls in vars(events).values() if dataclasses.is_dataclass(cls)]
VALUES = {
    "str": "a", "int": 1, "float": 0.5, "bool": True, "tuple[str, ...]": ("a", "b"), "tuple[int, ...]": (0, 1),
    "dict[str, int]": {"fit": 1}, "float | None": None, "str | None": None, "Kind": "fit",
    "JobStarted | JobProgress | JobFinished | JobFailed | Waiting | Note": events.Note("a"),
    "dict[str, bool | None]": {"a": None}, "dict[str, tuple[float, ...]]": {"a": (1.0, math.nan)},
    "dict[str, tuple[int, ...]]": {"a": (0, 1)},
}  # fmt: skip


def example(cls: type[Any]) -> Any:
    """An event with a value of its type in every field."""
    values = {}
    for field in dataclasses.fields(cls):
        literal = get_args(get_type_hints(cls)[field.name]) if str(field.type).startswith("Literal") else None
        values[field.name] = literal[0] if literal else VALUES[str(field.type)]
    return cls(**values)


def test_every_record_is_an_event() -> None:
    assert set(CLASSES) == set(get_args(events.Event))
    assert len(CLASSES) > 8


@pytest.mark.parametrize("cls", CLASSES)
def test_events_are_json_and_do_not_change(cls: type[Any]) -> None:
    event = example(cls)
    plain = dataclasses.asdict(event)
    assert set(json.loads(json.dumps(plain))) == {field.name for field in dataclasses.fields(cls)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, dataclasses.fields(cls)[0].name, "other")
    assert event == example(cls)
