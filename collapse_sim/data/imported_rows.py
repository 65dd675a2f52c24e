"""Rows that were generated elsewhere and are read from files, in place of the samples of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from collapse_sim.core.hashing import digest_of
from collapse_sim.data.base import RowSource

CHANGED = "{}: changed since it was checked: run the command again"


@dataclass(frozen=True, eq=False)
class ImportedRows:
    """The rows of one file or folder, checked against the data."""

    path: str  # for messages
    rows: int
    columns: tuple[str, ...]
    content: str  # sha256 of what determines the rows
    open: Callable[[], RowSource]  # raises MissingError when the file has changed since it was checked


@dataclass(frozen=True, eq=False)
class ImportedSeeds:
    """One generation's rows: of every seed its own, or the same ones for all seeds (the key None)."""

    by_seed: Mapping[int | None, ImportedRows]

    @property
    def seeded(self) -> bool:
        return None not in self.by_seed

    def of(self, seed: int) -> ImportedRows:
        return self.by_seed[seed] if self.seeded else self.by_seed[None]

    @property
    def content(self) -> str:
        """sha256 of the content of all files and of the seeds that they belong to; locations are not in it."""
        return digest_of([[seed, rows.content, rows.columns] for seed, rows in self.by_seed.items()])
