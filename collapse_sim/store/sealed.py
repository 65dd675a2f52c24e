"""JSON documents that prove themselves: each holds the sha256 of its own content, so no flipped bit is believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collapse_sim.core.files import read_bytes

SEAL = "sha256"


def text(content: Mapping[str, Any], *, indent: int | None = None) -> str:
    """The JSON of a mapping of JSON values, with its seal as the last key."""
    plain = json.loads(json.dumps(content))  # as a reader will see it: keys are strings, tuples are lists
    return json.dumps({**plain, SEAL: _hash(plain)}, indent=indent)


def parse(raw: bytes) -> dict[str, Any]:
    """The content of what `text` wrote, without the seal. Raises ValueError when a bit of it is another."""
    content = loads(raw)
    if not isinstance(content, dict):
        raise ValueError("it is no mapping")  # whatever is wrong with a text is a ValueError
    seal = content.pop(SEAL, None)
    if seal is None:
        raise ValueError("it has no hash of its own")
    if seal != _hash(content):
        raise ValueError("it does not match its own hash")
    return content


def read(path: Path) -> dict[str, Any]:
    """The content of a sealed file. Raises OSError when there is none that can be read, ValueError when damaged."""
    return parse(read_bytes(path))


def loads(raw: bytes) -> Any:
    """json.loads for bytes of unknown origin: whatever is wrong with them is a ValueError."""
    try:
        return json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
