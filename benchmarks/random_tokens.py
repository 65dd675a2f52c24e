"""Data of random tokens, for benchmarks: in a module of its own, since the sources of a plug-in are in content keys."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from collapse_sim.core.component import Component
from collapse_sim.data.base import Info
from collapse_sim.data.data_files import ArrayRows
from collapse_sim.data.text.tokens import Tokenizer


class RandomTokens(Component):
    """Full rows of random tokens."""

    kind: ClassVar[str] = "text"
    seeded: ClassVar[bool] = False
    lengths: dict[str, int]
    vocabulary: int
    rows: int

    def inspect(self, folder: Path) -> Info:
        tokenizer = Tokenizer.of_words([f"t{i}" for i in range(self.vocabulary - 1)])
        columns = {name: ((length,), tokenizer.dtype) for name, length in self.lengths.items()}
        return Info(self.kind, columns, self.rows, self.rows, 8, tokenizer=tokenizer, packed=True)

    def arrays(self) -> dict[str, np.ndarray]:
        dice = np.random.default_rng(0)
        dtype = self.inspect(Path()).text().dtype
        shape = {name: (self.rows, length) for name, length in self.lengths.items()}
        return {name: dice.integers(1, self.vocabulary, size).astype(dtype) for name, size in shape.items()}

    def open(self, folder: Path) -> tuple[ArrayRows, ArrayRows]:
        arrays = self.arrays()
        return ArrayRows(arrays), ArrayRows({name: array[:8] for name, array in arrays.items()})
