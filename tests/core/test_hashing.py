"""Content keys: the same value has one text, whatever the order of its keys, and another value has another one."""

from __future__ import annotations

import hashlib
import json
import math
import random
from typing import Any

import pytest

from collapse_sim.core.hashing import canonical_json, digest_of


def test_the_text_and_its_hash_are_those_of_every_stored_artefact() -> None:
    value = {"b": [1, 2.5, True, None], "a": {"ü": "\x1b", "": -0.1}, "10": 1e-05, "9": 1e22}
    text = '{"":0,"x":1}'
    assert canonical_json({"x": 1, "": 0}) == text
    assert digest_of({"x": 1, "": 0}) == hashlib.sha256(text.encode()).hexdigest()
    assert canonical_json(value) == (
        r'{"10":1e-05,"9":1e+22,"a":{"":-0.1,"\u00fc":"\u001b"},"b":[1,2.5,true,null]}'
    )  # fmt: skip


def random_value(dice: random.Random, depth: int = 3) -> Any:
    kind = dice.randrange(7 if depth else 5)
    if kind < 5:
        return [dice.randrange(5), dice.random(), None, dice.random() < 0.5, dice.choice(["", "a", "é", '"', "1"])][
            kind
        ]
    if kind == 5:
        return [random_value(dice, depth - 1) for _ in range(dice.randrange(4))]
    return {dice.choice("abcdefé1"): random_value(dice, depth - 1) for _ in range(dice.randrange(5))}


def shuffled(value: Any, dice: random.Random) -> Any:
    if isinstance(value, list):
        return [shuffled(one, dice) for one in value]
    if isinstance(value, dict):
        return {key: shuffled(value[key], dice) for key in dice.sample(list(value), len(value))}
    return value


def test_equal_values_and_only_they_have_equal_digests() -> None:
    dice = random.Random(0)
    values = [random_value(dice) for _ in range(400)]
    seen: dict[str, Any] = {}
    for value in values:
        text = canonical_json(value)
        assert repr(json.loads(text)) == repr(json.loads(json.dumps(value, sort_keys=True)))
        assert text.isascii()
        assert digest_of(shuffled(value, dice)) == digest_of(value)
        assert seen.setdefault(digest_of(value), text) == text
    assert len(seen) == len({canonical_json(value) for value in values}) > 100


def test_kinds_of_one_number_are_told_apart() -> None:
    """A setting that was 1 and is now 1.0, or true, is another text: families declare their types."""
    assert len({digest_of(value) for value in (1, 1.0, True, "1", [1])}) == 5


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}, {1, 2}, b"x"])
def test_what_has_no_json_has_no_key(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        digest_of(value)
