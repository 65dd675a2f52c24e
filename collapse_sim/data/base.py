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
    """What is known about the data before any row is decoded.

    `columns` maps a name to the shape of one row's entry and its dtype name, for example
    {"image": ((1, 32, 32), "uint8"), "label": ((), "int64")}.
    """

    kind: str  # "images", "points", "regression", "molecules", "text" (columns: tokens), "pairs" (source, target)
    columns: Mapping[str, tuple[tuple[int, ...], str]]
    rows: int  # real rows that generation 0 is fitted to
    pool: int  # all available real rows; those beyond `rows` are the reserve of `fresh`
    held_out: int
    validation: int = 0  # rows for choosing weights, neither trained on nor reported (data/split.py)
    classes: int = 0  # of the column "label"; 0: no labels
    fingerprint: str = ""  # sha256 of the content of the files read; "" for simulated data
    constants: Mapping[str, float] = field(default_factory=dict)  # known truths of simulated data, such as "noise"
    known_truths: tuple[str, ...] = ()  # methods of simulated data that return its true values, such as "log_density"
    tokenizer: Tokenizer | None = None  # for texts
    packed: bool = False  # text: rows are consecutive blocks of all texts joined (data/text/tokens.py)

    def shape(self, column: str) -> tuple[int, ...]:
        return self.columns[column][0]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, all columns together."""
        return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in self.columns.values())

    def text(self) -> Tokenizer:
        """The tokenizer; raises ValueError for data that is not text."""
        if self.tokenizer is None:
            raise ValueError(f"the data is of the kind {self.kind}, which has no tokenizer")
        return self.tokenizer


@runtime_checkable
class Data(Protocol):
    """A frozen config object (component.Component)."""

    version: ClassVar[int]
    kind: ClassVar[str]
    seeded: ClassVar[bool]  # True: simulated, each seed has its own rows; False: the same rows for every seed

    def describe(self) -> dict[str, Any]: ...

    def inspect(self, folder: Path) -> Info:
        """Find and check the files under `folder` (--data-dir / COLLAPSE_SIM_DATA), without decoding them all.

        Raises MissingError, which names the folder, the files and how to get them, or the wrong file and its problem.
        Raises RecipeError when the settings ask for more than the files contain (`rows`, `held_out_rows` ...).
        """
        ...


@runtime_checkable
class OnHub(Protocol):
    """Data that is published on the Hugging Face hub, too."""

    hub: ClassVar[str]  # "ylecun/mnist"


class RowSource(Protocol):
    """Rows that are decoded when they are read: together they need not fit in memory."""

    def __len__(self) -> int: ...

    def read(self, first: int, last: int) -> Columns:
        """Rows first, ..., last - 1: always the same ones, copied into new memory.

        Raises MissingError naming the files that cannot be decoded.
        """
        ...


class FileData(Data, Protocol):
    """Data that is the same for every seed."""

    def open(self, folder: Path) -> tuple[RowSource, RowSource]:
        """Returns (all real rows, held-out rows).

        Images have the columns "image" uint8 (n, C, H, W) and, if known, "label" int64 (n,).
        """
        ...


class SimulatedData(Data, Protocol):
    """Data that is drawn separately for each seed, in float64."""

    def simulate(self, rows: int, draws: Draws) -> dict[str, Tensor]:
        """Returns `rows` rows; with stacked draws, columns of shape (S, rows, ...)."""
        ...


def conditions_of(data: Data, family: object) -> tuple[str, ...]:
    """Columns that samples are conditioned on: `conditions` of the data (regression: x is given, y is generated) or of
    the family (summaries: the article is given; language models: prompts); else ()."""
    names = (*getattr(data, "conditions", ()), *getattr(family, "conditions", ()))
    return tuple(dict.fromkeys(names))
