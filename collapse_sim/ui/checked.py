"""Values out of a JSON file that anything may have written: each is of the type that it should be, or ValueError."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Check = Callable[[Any], T]

LONGEST = 20_000  # characters of a text; what is longer is cut
LARGEST_FILE = 64 * 2**20  # bytes
LARGEST = 1e15  # of a number, whole or not


def read_json(path: Path) -> Any:
    """A small JSON file that another process writes. Raises OSError or ValueError when it is something else."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe has nothing to say, and must not be waited for
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_FILE:
            raise ValueError(f"{path}: not a file of at most {LARGEST_FILE} bytes")
        with open(handle, "rb", closefd=False) as file:
            return json.loads(file.read())
    finally:
        os.close(handle)


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"found {type(value).__name__}, not a text")
    return value[:LONGEST]


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"found {type(value).__name__}, not true or false")
    return value


def score(value: Any) -> float:
    """Any number; what is not finite may be spelt "nan", "inf", "-inf"."""
    if value in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"found {type(value).__name__}, not a number")
    return float(value) if isinstance(value, float) or abs(value) < LARGEST else math.copysign(math.inf, value)


def number(value: Any) -> float:
    """A finite number."""
    found = score(value)
    if not abs(found) <= LARGEST:
        raise ValueError("found a number that is not finite, or too large")
    return found


def amount(value: Any) -> float:
    """A finite number, not negative."""
    found = number(value)
    if found < 0:
        raise ValueError("found a negative number")
    return found


def whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 2**64:
        raise ValueError(f"found {type(value).__name__}, not a whole number")
    return value


def count(value: Any) -> int:
    """A whole number, not negative."""
    if whole(value) < 0:
        raise ValueError("found a negative number")
    return int(value)


def process(value: Any) -> int:
    """A process's number."""
    if not 0 < whole(value) < 2**31:
        raise ValueError("found a number that no process has")
    return int(value)


def optional(check: Check[T]) -> Check[T | None]:
    return lambda value: None if value is None else check(value)


def listed(check: Check[T], length: int | None = None) -> Check[list[T]]:
    """A list; of `length` entries where that is told."""

    def found(value: Any) -> list[T]:
        if not isinstance(value, list) or (length is not None and len(value) != length):
            raise ValueError(f"found {type(value).__name__}, not a list of the right length")
        return [check(item) for item in value]

    return found


def mapping(check: Check[T]) -> Check[dict[str, T]]:
    def found(value: Any) -> dict[str, T]:
        if not isinstance(value, dict):
            raise ValueError(f"found {type(value).__name__}, not a mapping")
        return {text(name): check(item) for name, item in value.items()}

    return found


def record(**checks: Check[Any]) -> Check[dict[str, Any]]:
    """A mapping that has these keys; others are left out."""

    def found(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"found {type(value).__name__}, not a mapping")
        return {name: check(value[name]) for name, check in checks.items()}

    return found
