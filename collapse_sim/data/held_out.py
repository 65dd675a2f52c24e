"""Which rows from files are held out, and how many rows are used: the same for every kind of data."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import BeforeValidator

from collapse_sim.core.errors import RecipeError


class RowLimits(Protocol):
    """Settings that limit the number of rows; None: all rows."""

    @property
    def rows(self) -> int | None: ...

    @property
    def held_out_rows(self) -> int | None: ...


def share_or_count(value: Any) -> Any:
    """A float is a share, an int is a count."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number: give a share such as 0.2, or a number of rows such as 500")
    if isinstance(value, float) and not 0.0 < value < 1.0:
        raise ValueError(
            f"{value} is not a share between 0 and 1 (both excluded): for a number of rows omit the decimal point"
        )
    if isinstance(value, int) and value < 1:
        raise ValueError(f"{value} rows are too few: hold out at least one row, or a share such as 0.2")
    return value


ShareOrCount = Annotated[int | float, BeforeValidator(share_or_count)]


def shuffled(rows: int) -> np.ndarray:
    """A permutation of range(rows), the same on every machine: NumPy has frozen the stream of RandomState (NEP 19)."""
    return np.random.RandomState(0).permutation(rows)


def shuffled_split(held_out: float | int, rows: int, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the real and of the held-out rows: a fixed permutation of `rows` >= 2 rows, cut in two.

    `held_out` is a share or a number; `unit` is the name of rows in messages ("images"). Raises RecipeError when no row
    is left to train on.
    """
    if isinstance(held_out, float):
        held_out = min(max(1, round(held_out * rows)), rows - 1)
    if held_out >= rows:
        raise RecipeError(
            f"data.held_out: {held_out} of {rows} {unit} leaves none to train on: set at most {rows - 1}, or a share"
        )
    order = shuffled(rows)
    return order[held_out:], order[:held_out]


def held_out_index(settings: RowLimits, rows: int) -> np.ndarray:
    """Ascending indices of the held-out rows that are used: all of `rows`, or a fixed random choice of `held_out_rows`.

    The choice is random because the first half of MNIST's test set is known to be the easier half.
    """
    if settings.held_out_rows is None or settings.held_out_rows >= rows:
        return np.arange(rows)
    return np.sort(shuffled(rows)[: settings.held_out_rows])


def check_rows(settings: RowLimits, pool: int, held_out: int) -> None:
    """Raises RecipeError when more rows are requested than the `pool` real and `held_out` held-out rows available."""
    problems = [
        f"data.{name}: {requested} asked for, but there are {available} {kind} rows: lower it or leave it out"
        for name, requested, available, kind in (
            ("rows", settings.rows, pool, "real"),
            ("held_out_rows", settings.held_out_rows, held_out, "held-out"),
        )
        if requested is not None and requested > available
    ]
    if problems:
        raise RecipeError(*problems)
