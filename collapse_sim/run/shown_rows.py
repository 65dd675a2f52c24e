"""The few rows that pictures and pages show, which outlive the samples that they are from.

Pictures of all generations are drawn anew as the run goes on, also after earlier samples are pruned. Where samples are
not all kept, the rows that pictures show are written to pictures/rows when they are first read.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from collapse_sim.core.files import read_bytes, write_atomic
from collapse_sim.engine import artefacts
from collapse_sim.plan.experiment import Experiment
from collapse_sim.plan.generations import ArmPlan
from collapse_sim.plan.keeping import keep_of
from collapse_sim.plan.specs import SampleSpec
from collapse_sim.store.store import Store

FOLDER = "rows"


@dataclass(frozen=True)
class ShownRows:
    """What one kind of picture takes of the first seed's samples, from the store or from what was kept of them."""

    experiment: Experiment
    store: Store
    folder: Path  # of the pictures
    what: str  # names the kind of picture
    choose: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]  # columns -> what is shown of them

    def of(self, spec: SampleSpec) -> dict[str, np.ndarray] | None:
        """None: neither the samples nor what was kept of them is there, or the latter is damaged."""
        seed, pruned = self.experiment.recipe.seeds[0], keep_of(self.experiment.recipe, spec) != "all"
        path = self.folder / FOLDER / f"{self.what}-{spec.digest[:16]}-seed-{seed}.npz"
        if self.store.has(spec, seed):
            try:
                file, columns = artefacts.columns(self.store, spec, seed, "samples")
            except FileNotFoundError:  # another process of the run has just pruned it
                if not pruned:
                    raise
                return _read(path)
            rows = {name: np.array(column) for name, column in self.choose(columns).items()}
            file.release()
            if pruned and not path.exists():
                _write(path, rows)
            return rows
        return _read(path) if pruned else None

    def keep(self, plans: Iterable[ArmPlan], k: int) -> None:
        """Keep what pictures of later generations show of generation k, if its samples are going to be pruned."""
        for plan in plans:
            if keep_of(self.experiment.recipe, plan.generations[k].samples) != "all":
                self.of(plan.generations[k].samples)


def _write(path: Path, rows: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez(content, **rows)  # type: ignore[arg-type]
    write_atomic(path, content.getvalue(), durable=False)


def _read(path: Path) -> dict[str, np.ndarray] | None:
    try:
        with np.load(io.BytesIO(read_bytes(path))) as stored:  # it compares each column with its checksum
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile):
        return None
