"""What every row of a fit counts in its loss: what the arm's weighting says of its generation, times what a curation
says of the row."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from collapse_sim.engine import choice
from collapse_sim.plan.specs import FitSpec
from collapse_sim.remedies.base import RowWeighting


def weighs_rows(spec: FitSpec) -> bool:
    """Whether rows of the fit have weights."""
    return isinstance(spec.weighting, RowWeighting)


def row_weights(spec: FitSpec, seed: int, curated: Tensor | None = None) -> Tensor | None:
    """(n,) float64, of mean 1, in the order of the fit's rows (artefacts.training_table); None: all 1.

    `curated` (n,) are the weights of a curation, in the same order. They say how the rows of a generation compare with
    each other, not with those of other generations: their mean in each generation is made 1.
    """
    weighting = spec.weighting
    if curated is None and not weighs_rows(spec):
        return None
    generations = _generations(spec, seed)
    base = torch.ones(len(generations), dtype=torch.float64) if curated is None else curated.double().clone()
    if curated is not None:
        for generation in set(generations.tolist()):
            chosen = generations == generation
            base[chosen] /= base[chosen].mean()
    return weighting.of_rows(spec.plan, generations, base) if isinstance(weighting, RowWeighting) else base


def _generations(spec: FitSpec, seed: int) -> Tensor:
    """(n,) int64: the generation that each row is of."""
    sources = spec.plan.sources
    rows = np.repeat([source.generation for source in sources], [source.rows for source in sources])
    pick = choice.subsample(spec, seed)
    return torch.from_numpy(rows if pick is None else rows[pick])
