"""The contract of a kind of data: real rows to train on, and held-out rows that are never trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from collapse_sim.core.randomness import Draws
    from collapse_sim.data.text.tokens import Tokenizer

Columns = Mapping[str, np.ndarray]  # column name -> (rows, ...)


@dataclass(frozen=True)
class Info:
    """What is known of the data before any row is decoded.

    `columns` maps a name to the shape of one row's entry and its dtype name, for instance
    {"image": ((1, 32, 32), "uint8"), "label": ((), "int64")}.
    """

    kind: str  # "images", "points", "regression", "text" (columns: tokens), "pairs" (columns: source, target)
    columns: Mapping[str, tuple[tuple[int, ...], str]]
    rows: int  # real rows that generation 0 is fitted to
    pool: int  # real rows there are; those beyond `rows` are the reserve of `fresh`
    held_out: int
    validation: int = 0  # rows to choose weights by, neither trained on nor reported (data/split.py)
    classes: int = 0  # of the column "label"; 0: no labels
    fingerprint: str = ""  # sha256 of the content of the files read; "" for simulated data
    constants: Mapping[str, float] = field(default_factory=dict)  # known truths of simulated data, such as "noise"
    known_truths: tuple[str, ...] = ()  # methods by which simulated data tells its truth, such as "log_density"
    tokenizer: Tokenizer | None = None  # of texts
    packed: bool = False  # text: rows are consecutive blocks of all texts joined (data/text/tokens.py)

    def shape(self, column: str) -> tuple[int, ...]:
        return self.columns[column][0]

    @property
    def row_bytes(self) -> int:
        """Of one row, all columns."""
        return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in self.columns.values())

    def text(self) -> Tokenizer:
        """The tokenizer of texts; raises ValueError for data of another kind."""
        if self.tokenizer is None:
            raise ValueError(f"the data is of {self.kind}, and has no tokenizer")
        return self.tokenizer


@runtime_checkable
class Data(Protocol):
    """A frozen config object (component.Component)."""

    version: ClassVar[int]
    kind: ClassVar[str]
    seeded: ClassVar[bool]  # True: simulated, every seed has rows of its own; False: the same rows for every seed

    def describe(self) -> dict[str, Any]: ...

    def inspect(self, folder: Path) -> Info:
        """Find and check the files under `folder` (--data-dir / COLLAPSE_SIM_DATA), without decoding them all.

        Raises MissingError: which folder, which files, how to get them, or which file is wrong and how.
        Raises RecipeError when the settings ask for more than the files have (`rows`, `held_out_rows` ...).
        """
        ...


class RowSource(Protocol):
    """Rows that are decoded when they are asked for: together they need not fit in memory."""

    def __len__(self) -> int: ...

    def read(self, first: int, last: int) -> Columns:
        """Rows first, ..., last - 1: always the same ones, in memory of their own.

        Raises MissingError naming the files that cannot be decoded.
        """
        ...


class FileData(Data, Protocol):
    """Data that is the same for every seed."""

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        """(all real rows, held-out rows). Images: column "image" uint8 (n, C, H, W), "label" int64 (n,) if known."""
        ...


class SimulatedData(Data, Protocol):
    """Data that is drawn for each seed, in float64."""

    def simulate(self, rows: int, draws: Draws) -> dict[str, Tensor]:
        """`rows` rows; with stacked draws, columns of shape (S, rows, ...)."""
        ...


def conditions_of(data: Data, family: object) -> tuple[str, ...]:
    """Columns that samples are conditioned on: `conditions` of the data (regression: x is given, y generated) or of the
    family (summaries: the article is given; language models: prompts); else ()."""
    given = (*getattr(data, "conditions", ()), *getattr(family, "conditions", ()))
    return tuple(dict.fromkeys(given))
