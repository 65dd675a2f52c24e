"""What every row of a fit counts in its loss: what the arm's weighting says of its generation, times what a curation
says of the row."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from collapse_sim.engine import artefacts, choice
from collapse_sim.plan.specs import FitSpec
from collapse_sim.remedies.base import RowWeighting
from collapse_sim.store.store import Store


def weighs_rows(store: Store, spec: FitSpec, seed: int) -> bool:
    """Whether rows of the fit have weights; of all seeds or of none."""
    return isinstance(spec.weighting, RowWeighting) or artefacts.curated_weights(store, spec, seed) is not None


def stored_row_weights(store: Store, spec: FitSpec, seed: int) -> Tensor | None:
    """`row_weights` with those that the store has of curations."""
    curated = artefacts.curated_weights(store, spec, seed)
    kept = artefacts.kept(store, spec.curation, seed)["index"] if spec.curation else None
    return row_weights(spec, seed, None if curated is None else torch.from_numpy(curated), kept)


def row_weights(
    spec: FitSpec, seed: int, curated: Tensor | None = None, kept: np.ndarray | None = None
) -> Tensor | None:
    """(n,) float64, of mean 1, in the order of the fit's rows (artefacts.training_table); None: all 1.

    `curated` (n,) are the weights of a curation, in the same order. Those of a curated generation say how its rows
    compare with each other, so that their mean in each generation is made 1. Those of a curation of all past rows,
    which keeps the rows `kept` (n,) of what the plan offers, compare all of them, unless a weighting says how
    generations compare.
    """
    weighting = spec.weighting
    if curated is None and not isinstance(weighting, RowWeighting):
        return None
    generations = _generations(spec, seed, kept)
    base = torch.ones(len(generations), dtype=torch.float64) if curated is None else curated.double().clone()
    if curated is not None and kept is not None and not isinstance(weighting, RowWeighting):
        return base / base.mean()
    if curated is not None:
        for generation in set(generations.tolist()):
            chosen = generations == generation
            base[chosen] /= base[chosen].mean()
    return weighting.of_rows(spec.plan, generations, base) if isinstance(weighting, RowWeighting) else base


def _generations(spec: FitSpec, seed: int, kept: np.ndarray | None) -> Tensor:
    """(n,) int64: the generation that each row is of."""
    sources = spec.plan.sources
    rows = np.repeat([source.generation for source in sources], [source.rows for source in sources])
    pick = choice.subsample(spec, seed) if kept is None else kept
    return torch.from_numpy(rows if pick is None else rows[pick])
