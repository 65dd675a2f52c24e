"""Rows from files in place of a model's samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from collapse_sim.core.errors import MissingError
from collapse_sim.data.imported_rows import CHANGED
from collapse_sim.engine.pieces import Pieces, in_pieces
from collapse_sim.engine.sample import ROWS_FILE
from collapse_sim.engine.work import JobContext
from collapse_sim.plan.specs import SampleSpec
from collapse_sim.store.jobs import Job

PIECE_BYTES = 2**22  # of a piece of rows, from which interrupted reading continues


def import_rows(job: Job, folder: Path, context: JobContext) -> None:
    """Store the first rows of a file in samples.safetensors. Resuming repeats at most one piece.

    Raises MissingError when the file is not as it was when it was checked.
    """
    spec = job.spec
    assert isinstance(spec, SampleSpec)
    assert spec.imported is not None
    rows, columns = spec.imported.of(job.seeds[0] if job.seeds else 0), spec.model.data.info.columns
    source = rows.open()
    changed = MissingError(CHANGED.format(rows.path))
    if len(source) < spec.rows:
        raise changed

    def read(piece: int, first: int, last: int) -> Mapping[str, np.ndarray]:
        context.stop.check()
        values = source.read(first, last)
        if any(array.shape != (last - first, *columns[name][0]) for name, array in values.items()):
            raise changed
        return {name: values[name].astype(columns[name][1], copy=False) for name in rows.columns}

    size = max(1, PIECE_BYTES // spec.model.data.info.row_bytes)
    in_pieces(job, folder, context, Pieces(ROWS_FILE, spec.rows, size, read))
