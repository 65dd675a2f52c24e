"""Generated rows as a run stored them, read without torch."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from collapse_sim.core.errors import RecipeError, StoreError
from collapse_sim.store import journal
from collapse_sim.store.blocks import recorded_blocks, stored_block
from collapse_sim.store.rowfile import SAMPLES_FILE, RowFile
from collapse_sim.store.run_directory import JOURNAL_FILE, store_of

MAKE = "running the recipe again makes what is missing"


@dataclass(frozen=True)
class Samples:
    """What one model generated: `columns` by name, (rows, ...) each, read-only and memory-mapped; images are uint8
    (rows, channels, height, width)."""

    arm: str
    generation: int
    seed: int
    columns: Mapping[str, np.ndarray]
    decode: Callable[[Mapping[str, np.ndarray]], list[Any] | None] = lambda columns: None

    @cached_property
    def texts(self) -> list[Any] | None:
        """The decoded rows of text data, of pairs {"source", "target"} each; None for other data.

        Imports torch and prepares the data for its tokenizer: raises what `Run.model` raises.
        """
        return self.decode(self.columns)

    @property
    def rows(self) -> np.ndarray | list[Any]:
        """The texts, or else the only column beside labels. Raises RecipeError when there are several."""
        if self.texts is not None:
            return self.texts
        names = [name for name in self.columns if name != "label"]
        if len(names) != 1:
            raise RecipeError(f"these rows have the columns {', '.join(self.columns)}: take them from .columns")
        return self.columns[names[0]]

    @property
    def labels(self) -> np.ndarray | None:
        """The class that each row was generated for, (rows,); None where the data has no classes."""
        return self.columns.get("label")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {column.dtype} {column.shape}" for name, column in self.columns.items())
        return f"<Samples of {self.arm}, generation {self.generation}, seed {self.seed}: {shapes}>"


def stored_columns(folder: Path, store: Path | None, arm: str, generation: int, seed: int) -> dict[str, np.ndarray]:
    """The columns of the samples behind a run's scores, (rows, ...) each; `store` None: the run's own.

    Raises StoreError for what is not scored yet, and for samples that are not in the store or damaged.
    """
    digests = [
        line["samples"]
        for line in journal.read(folder / JOURNAL_FILE)
        if line["event"] == "scores" and (line["arm"], line["generation"]) == (arm, generation)
        if seed in line["seeds"] and line.get("samples")
    ]
    if not digests:
        raise StoreError(f"{place(arm, generation, seed)}: no samples: this is not scored yet; {MAKE}")
    root = store or store_of(folder)
    block = stored_block(root, digests[-1], seed)
    if block is None:
        where = place(arm, generation, seed)
        if any(seed in seeds or seeds == (-1,) for seeds in recorded_blocks(root, digests[-1])):
            again = shlex.join(["--arm", arm, "--generation", str(generation), "--seed", str(seed)])
            raise StoreError(
                f"{where}: its samples were not kept (keep_samples); to make them again:\n"
                f"  collapse-sim export {shlex.quote(str(folder))} {again} --to FOLDER"
            )
        raise StoreError(f"{where}: its samples are not in {root}: they were removed; {MAKE}")
    columns = {}
    for name, column in RowFile(block.file(SAMPLES_FILE)).columns.items():
        columns[name] = column[block.seeds.index(seed)] if block.stacked else column
        columns[name].flags.writeable = False
    return columns


def place(arm: str, generation: int, seed: int) -> str:
    """How errors name one model."""
    return f"{arm}, generation {generation}, seed {seed}"
