"""Checks for values from an untrusted JSON file: each returns the value in its type, or raises ValueError."""

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

LONGEST = 20_000  # characters of a text; longer texts are cut
LARGEST_FILE = 64 * 2**20  # bytes
LARGEST = 1e15  # absolute value of a number


def read_json(path: Path) -> Any:
    """Read a small JSON file that another process writes. Raises OSError or ValueError if it is not one."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # do not wait for a named pipe
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode) or info.st_size > LARGEST_FILE:
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
    """Any number; non-finite ones may be written as "nan", "inf", "-inf"."""
    if value in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"found {type(value).__name__}, not a number")
    return float(value) if isinstance(value, float) or abs(value) < LARGEST else math.copysign(math.inf, value)


def number(value: Any) -> float:
    """A finite number."""
    x = score(value)
    if not abs(x) <= LARGEST:
        raise ValueError("found a number that is not finite, or too large")
    return x


def amount(value: Any) -> float:
    """A finite, non-negative number."""
    x = number(value)
    if x < 0:
        raise ValueError("found a negative number")
    return x


def integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 2**64:
        raise ValueError(f"found {type(value).__name__}, not a whole number")
    return value


def count(value: Any) -> int:
    """A non-negative integer."""
    if integer(value) < 0:
        raise ValueError("found a negative number")
    return int(value)


def process(value: Any) -> int:
    """A process id."""
    if not 0 < integer(value) < 2**31:
        raise ValueError("found a number that cannot be a process id")
    return int(value)


def optional(check: Check[T]) -> Check[T | None]:
    return lambda value: None if value is None else check(value)


def listed(check: Check[T], length: int | None = None) -> Check[list[T]]:
    """A list, of `length` entries if given."""

    def checked_list(value: Any) -> list[T]:
        if not isinstance(value, list) or (length is not None and len(value) != length):
            raise ValueError(f"found {type(value).__name__}, not a list of the right length")
        return [check(item) for item in value]

    return checked_list


def mapping(check: Check[T]) -> Check[dict[str, T]]:
    def checked_mapping(value: Any) -> dict[str, T]:
        if not isinstance(value, dict):
            raise ValueError(f"found {type(value).__name__}, not a mapping")
        return {text(name): check(item) for name, item in value.items()}

    return checked_mapping


def record(**checks: Check[Any]) -> Check[dict[str, Any]]:
    """A mapping that has these keys; other keys are dropped."""

    def checked_record(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"found {type(value).__name__}, not a mapping")
        return {name: check(value[name]) for name, check in checks.items()}

    return checked_record
