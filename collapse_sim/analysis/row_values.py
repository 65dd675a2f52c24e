"""How much each held-out row moves a score, read from the store where the run has it (metrics/influence.py)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collapse_sim.core.hashing import canonical_json
from collapse_sim.store.blocks import block_name, check_block, object_folder
from collapse_sim.store.rowfile import INFLUENCE, VALUES_FILE, RowFile

Influence = NDArray[np.float32]
KEPT = 256  # files of an arm that are remembered: 10 MB of 10,000 rows each


@dataclass(frozen=True)
class RowValues:
    """Where the values of held-out rows behind one arm's scores are."""

    digests: Mapping[tuple[str, int, int], str]  # (metric, generation, seed) -> of the score
    places: tuple[Path, ...]  # stores that may have them
    data: str  # what the held-out rows are: those of equal data are the same ones
    read: dict[Path, Influence | None] = field(default_factory=dict, compare=False, repr=False)
    damaged: dict[Path, str] = field(default_factory=dict, compare=False, repr=False)  # what could not be read, and why
    resampled: bool = False  # seeds have splits of their own, out of the same rows: theirs are not to be averaged

    def influence(self, metric: str, generation: int, seed: int) -> Influence | None:
        """(n,) with sum 0; None where the score has no values of held-out rows, or they are gone or damaged."""
        digest = self.digests.get((metric, generation, seed))
        for place in self.places if digest else ():
            assert digest is not None
            found = self._remembered(object_folder(place, digest) / block_name((seed,)))
            if found is not None:
                return found
        return None

    def _remembered(self, folder: Path) -> Influence | None:
        if folder not in self.read:
            if len(self.read) >= KEPT:
                self.read.clear()
            self.read[folder], problem = _read(folder)
            if problem:
                self.damaged[folder] = problem
        return self.read[folder]

    @property
    def lost(self) -> bool:
        """Whether there are such scores, and no store to read them from."""
        return bool(self.digests) and not any((place / "objects").is_dir() for place in self.places)


def _read(folder: Path) -> tuple[Influence | None, str]:
    """The influences of a score, if it keeps some, and what is wrong with it ("" if nothing)."""
    if not os.path.lexists(folder):
        return None, ""
    problem, manifest = check_block(folder)
    if problem or VALUES_FILE not in manifest["files"]:
        return None, problem
    try:
        found = RowFile(folder / VALUES_FILE).columns.get(INFLUENCE)
    except (OSError, ValueError, KeyError) as error:
        return None, f"{VALUES_FILE} is unreadable: {error}"
    return (None if found is None or found.ndim != 1 else found.astype(np.float32)), ""


def row_sources(folder: Path, run: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> dict[str, RowValues]:
    """By arm, from run.json and the journal; of several scores of the same the last counts."""
    found: dict[str, dict[tuple[str, int, int], str]] = {}
    for line in lines:
        if line.get("event") == "scores":
            digests = found.setdefault(line["arm"], {})
            for metric, digest in line.get("rows", {}).items():
                digests.update({(metric, line["generation"], seed): digest for seed in line["seeds"]})
    said = (folder / str(run[key]) for key in ("store", "store_at") if run.get(key))  # the second is absolute
    places = tuple(dict.fromkeys(place.resolve() for place in (*said, folder.parent / ".store")))
    settings = run.get("settings", {}).get("data")
    resampled = isinstance(settings, Mapping) and settings.get("split") == "seed"
    data = canonical_json([run.get("fingerprint"), settings])
    return {arm: RowValues(digests, places, data, resampled=resampled) for arm, digests in found.items()}
