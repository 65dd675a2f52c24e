"""How rows are split: real rows for training, validation rows for choosing weights, held-out rows for reporting.

Each kind of data provides real and held-out rows; the settings `validation_rows` and `split` are applied here, once for
all kinds. For data from files, validation rows are taken out of the real rows; for simulated data they are drawn in
addition.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from collapse_sim.core.component import Component
from collapse_sim.core.errors import RecipeError
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Columns, Data, Info, RowSource
from collapse_sim.data.held_out import shuffled

Part = Literal["real", "validation", "held_out"]


class Validated(Component):
    """The setting that every kind of data has."""

    validation_rows: Annotated[int, Field(gt=0)] | None = None
    """Number of rows reserved for choosing weights; default: none."""


class Divided(Validated):
    """The settings that every kind of data from files has.

    A vocabulary learned from the real rows, and messages about duplicates, always refer to the fixed split.
    """

    split: Literal["fixed", "seed"] = "fixed"
    """fixed: all seeds hold out the same rows; seed: each seed holds out its own choice of all rows."""


def resampled(data: Data) -> bool:
    """Whether each seed has its own split."""
    return getattr(data, "split", "fixed") == "seed"


def divided(data: Data, info: Info) -> Info:
    """The Info of the data after validation rows have been reserved.

    Raises RecipeError when too few rows remain, or when blocks of one text would be on both sides of the split.
    """
    validation_rows: int = getattr(data, "validation_rows", None) or 0
    if data.seeded:
        return dataclasses.replace(info, validation=validation_rows)
    if resampled(data) and info.packed:
        raise RecipeError(
            "data.split: packed texts are blocks of one stream, so a text would be both trained on and held out; "
            "allowed: fixed, or seed with data.pack: false"
        )
    requested_rows, remaining = getattr(data, "rows", None), info.pool - validation_rows
    rows = info.rows if requested_rows is not None else min(info.rows, remaining)
    if remaining < max(rows, 1):
        raise RecipeError(
            f"data.validation_rows: {validation_rows} asked for, but there are {info.pool} real rows"
            + (f", of which data.rows takes {rows}" if requested_rows is not None else "")
            + ": lower one of them"
        )
    return dataclasses.replace(info, rows=rows, pool=remaining, validation=validation_rows)


def parts_of(data: Data, info: Info, real: RowSource, held_out: RowSource, seed: int) -> dict[Part, RowSource]:
    """The rows of each part of data from files; `info` is the result of `divided`.

    The split is the same for every seed, or the seed's own: `held_out` and `validation` rows are drawn from all rows.
    With a fixed split, validation rows are a fixed random choice, or for packed texts the last blocks, so that at most
    one text is on both sides.
    """
    if not resampled(data) and not info.validation:
        return {"real": real, "held_out": held_out}
    rows = real
    if resampled(data):
        rows = Joined(real, held_out)
        order = Draws((seed,), "split", 0).permutation(len(rows)).numpy()
        held_out, order = _chosen(rows, order[: info.held_out]), order[info.held_out :]
    else:
        total = info.pool + info.validation
        order = np.arange(total)[::-1] if info.packed else shuffled(total)
    n = info.validation
    validation: dict[Part, RowSource] = {"validation": _chosen(rows, order[:n])} if n else {}
    return {"real": _chosen(rows, order[n:]), **validation, "held_out": held_out}


def _chosen(rows: RowSource, index: np.ndarray) -> RowSource:
    return Chosen(rows, np.sort(index))


@dataclass(frozen=True, eq=False)
class Joined:
    """RowSource: the rows of one source, then those of another."""

    first: RowSource
    second: RowSource

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def read(self, first: int, last: int) -> Columns:
        """Rows first, ..., last - 1."""
        border = len(self.first)
        parts = []
        if first < border:
            parts.append(self.first.read(first, min(last, border)))
        if last > border:
            parts.append(self.second.read(max(first, border) - border, last - border))
        return parts[0] if len(parts) == 1 else _joined(parts)


@dataclass(frozen=True, eq=False)
class Chosen:
    """RowSource: selected rows of another source, by ascending index; neighbouring rows are read together."""

    rows: RowSource
    index: np.ndarray  # (n,) int64, ascending

    def __len__(self) -> int:
        return len(self.index)

    def read(self, first: int, last: int) -> Columns:
        """Rows first, ..., last - 1."""
        index = self.index[first:last]
        runs = np.split(index, np.flatnonzero(np.diff(index) > 1) + 1)
        return _joined([self.rows.read(int(run[0]), int(run[-1]) + 1) for run in runs])


def _joined(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
