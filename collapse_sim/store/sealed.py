"""Sealed JSON documents: each contains the sha256 of its own content, so that damage is always noticed."""

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
    plain = json.loads(json.dumps(content))  # as it will be read: keys are strings, tuples are lists
    return json.dumps({**plain, SEAL: _hash(plain)}, indent=indent)


def parse(raw: bytes) -> dict[str, Any]:
    """The content of a document that `text` made, without the seal. Raises ValueError when it was changed."""
    content = loads(raw)
    if not isinstance(content, dict):
        raise ValueError("it is not a mapping")  # any defect of a document is a ValueError
    seal = content.pop(SEAL, None)
    if seal is None:
        raise ValueError("it has no hash of its own")
    if seal != _hash(content):
        raise ValueError("it does not match its own hash")
    return content


def read(path: Path) -> dict[str, Any]:
    """The content of a sealed file. Raises OSError when it cannot be read, ValueError when it is damaged."""
    return parse(read_bytes(path))


def loads(raw: bytes) -> Any:
    """json.loads for bytes of unknown origin: any defect is a ValueError."""
    try:
        return json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
