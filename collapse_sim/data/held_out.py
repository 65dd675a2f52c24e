"""Which rows of files are held out, and how many rows are used: the same for every kind of data."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import BeforeValidator

from collapse_sim.core.errors import RecipeError


class Wanted(Protocol):
    """Settings that say how many rows are wanted; None: all there are."""

    @property
    def rows(self) -> int | None: ...

    @property
    def held_out_rows(self) -> int | None: ...


def share_or_count(value: Any) -> Any:
    """A float is a share, an int is a count."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number: give a share such as 0.2, or a number of rows such as 500")
    if isinstance(value, float) and not 0.0 < value < 1.0:
        raise ValueError(
            f"{value} is no share between 0 and 1 (both excluded): for a number of rows leave out the point"
        )
    if isinstance(value, int) and value < 1:
        raise ValueError(f"{value} rows are too few: hold out at least one, or a share such as 0.2")
    return value


ShareOrCount = Annotated[int | float, BeforeValidator(share_or_count)]


def shuffled(rows: int) -> np.ndarray:
    """A permutation of range(rows), the same on every machine: NumPy has frozen the stream of RandomState (NEP 19)."""
    return np.random.RandomState(0).permutation(rows)


def shuffled_split(held_out: float | int, rows: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the real rows and of the held-out rows, a share or a number, of two or more: a fixed permutation, cut.

    Raises RecipeError when none is left to train on; `what` is what rows are called ("images").
    """
    if isinstance(held_out, float):
        held_out = min(max(1, round(held_out * rows)), rows - 1)
    if held_out >= rows:
        raise RecipeError(
            f"data.held_out: {held_out} of {rows} {what} leaves none to train on: set at most {rows - 1}, or a share"
        )
    order = shuffled(rows)
    return order[held_out:], order[:held_out]


def held_out_index(settings: Wanted, rows: int) -> np.ndarray:
    """Which of `rows` held-out rows are used, ascending: all, or a fixed random choice of `held_out_rows`.

    A random choice and not the first ones: the first half of MNIST's test set is known to be the easier half.
    """
    if settings.held_out_rows is None or settings.held_out_rows >= rows:
        return np.arange(rows)
    return np.sort(shuffled(rows)[: settings.held_out_rows])


def check_rows(settings: Wanted, pool: int, held_out: int) -> None:
    """Raises RecipeError when more rows are asked for than the `pool` real and `held_out` held-out ones there are."""
    problems = [
        f"data.{name}: {wanted} asked for, but there are {there} {what} rows: lower it or leave it out"
        for name, wanted, there, what in (
            ("rows", settings.rows, pool, "real"),
            ("held_out_rows", settings.held_out_rows, held_out, "held-out"),
        )
        if wanted is not None and wanted > there
    ]
    if problems:
        raise RecipeError(*problems)
