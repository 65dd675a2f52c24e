"""The influence of each held-out row on a score (metrics/base.py), read from the run's store."""

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
KEPT = 256  # cached files per arm: 10 MB for 10,000 rows each


@dataclass(frozen=True)
class RowValues:
    """Access to the values of held-out rows behind one arm's scores."""

    digests: Mapping[tuple[str, int, int], str]  # (metric, generation, seed) -> the score's hash
    places: tuple[Path, ...]  # stores that may have them
    data: str  # identifies the held-out rows: equal data means the same rows
    read: dict[Path, Influence | None] = field(default_factory=dict, compare=False, repr=False)
    damaged: dict[Path, str] = field(default_factory=dict, compare=False, repr=False)  # unreadable folders, and why
    resampled: bool = False  # each seed has its own split of the same rows: do not average over seeds

    def influence(self, metric: str, generation: int, seed: int) -> Influence | None:
        """(n,) with sum 0; None if the score has no values of held-out rows, or they are missing or damaged."""
        digest = self.digests.get((metric, generation, seed))
        for place in self.places if digest else ():
            assert digest is not None
            influence = self._cached(object_folder(place, digest) / block_name((seed,)))
            if influence is not None:
                return influence
        return None

    def _cached(self, folder: Path) -> Influence | None:
        if folder not in self.read:
            if len(self.read) >= KEPT:
                self.read.clear()
            self.read[folder], problem = _read(folder)
            if problem:
                self.damaged[folder] = problem
        return self.read[folder]

    @property
    def store_missing(self) -> bool:
        """Whether there are such scores, but no store to read them from."""
        return bool(self.digests) and not any((place / "objects").is_dir() for place in self.places)


def _read(folder: Path) -> tuple[Influence | None, str]:
    """The influences stored with a score, if any, and what is wrong with it ("" if nothing)."""
    if not os.path.lexists(folder):
        return None, ""
    problem, manifest = check_block(folder)
    if problem or VALUES_FILE not in manifest["files"]:
        return None, problem
    try:
        influence = RowFile(folder / VALUES_FILE).columns.get(INFLUENCE)
    except (OSError, ValueError, KeyError) as error:
        return None, f"{VALUES_FILE} is unreadable: {error}"
    return (None if influence is None or influence.ndim != 1 else influence.astype(np.float32)), ""


def row_sources(folder: Path, run: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> dict[str, RowValues]:
    """The row values by arm, from run.json and the journal; the last line for a score counts."""
    digests_by_arm: dict[str, dict[tuple[str, int, int], str]] = {}
    for line in lines:
        if line.get("event") == "scores":
            digests = digests_by_arm.setdefault(line["arm"], {})
            for metric, digest in line.get("rows", {}).items():
                digests.update({(metric, line["generation"], seed): digest for seed in line["seeds"]})
    recorded = (folder / str(run[key]) for key in ("store", "store_at") if run.get(key))  # the second is absolute
    places = tuple(dict.fromkeys(place.resolve() for place in (*recorded, folder.parent / ".store")))
    settings = run.get("settings", {}).get("data")
    resampled = isinstance(settings, Mapping) and settings.get("split") == "seed"
    data = canonical_json([run.get("fingerprint"), settings])
    return {arm: RowValues(digests, places, data, resampled=resampled) for arm, digests in digests_by_arm.items()}
