"""Checks what components return, as a user's own may return anything. Problems raise TypeError or ValueError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from collapse_sim.data.base import Data, Info
from collapse_sim.data.sources import REAL, Plan, RowCounts, Source, StrategyError


def check_info(info: object, data: Data) -> None:
    """Check that `inspect` returned an Info of the data's kind, with valid columns and row counts."""
    if not isinstance(info, Info):
        raise TypeError(f"it gives {type(info).__name__}; needed: collapse_sim.data.base.Info")
    if info.kind != data.kind:
        raise ValueError(f"it gives data of {info.kind!r}, and `kind` is {data.kind!r}")
    if not isinstance(info.columns, Mapping):
        raise TypeError("its `columns` are not a mapping of names to (shape, dtype)")
    for name, column in info.columns.items():
        shape, dtype = column
        if not isinstance(name, str) or not all(_count(side) for side in shape):
            raise ValueError(f"its column {name!r} has the shape {shape!r}; needed: a tuple of whole numbers")
        np.dtype(dtype)
    if not (_count(info.rows) and _count(info.pool) and _count(info.held_out) and 1 <= info.rows <= info.pool):
        raise ValueError(
            f"it gives rows = {info.rows!r}, pool = {info.pool!r} and held_out = {info.held_out!r}; needed: whole "
            "numbers, and 1 <= rows <= pool"
        )


def check_plan(plan: object, k: int, counts: RowCounts, samples: Sequence[int]) -> None:
    """Check that `plan` returned a Plan of existing rows; generation j has samples[j]. Raises StrategyError for rows
    that do not exist."""
    if not isinstance(plan, Plan) or not all(isinstance(source, Source) for source in plan.sources):
        raise TypeError(f"it gives {type(plan).__name__}; needed: a Plan of a tuple of Sources")
    if plan.budget is not None and not (_count(plan.budget) and plan.budget):
        raise ValueError(f"its `budget` is {plan.budget!r}; needed: a whole number above 0, or None")
    for source in plan.sources:
        among = source.rows if source.among is None else source.among
        if not all(isinstance(number, int) for number in (*source[:3], among)) or not REAL <= source.generation < k:
            raise ValueError(f"it takes rows of generation {source.generation!r}; allowed: {REAL} (real) to {k - 1}")
        if among < source.rows:
            raise StrategyError(f"it draws {source.rows} rows among {among} of generation {source.generation}")
        available = counts.pool if source.generation == REAL else samples[source.generation]
        if source.rows < 0 or source.first < 0 or source.first + among > available:
            last = source.first + among - 1
            raise StrategyError(
                f"it takes rows {source.first} to {last} of generation {source.generation}, which has {available}"
            )
    if plan.rows < 1:
        raise StrategyError(f"it takes no rows at all for generation {k}")


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
