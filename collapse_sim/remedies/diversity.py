"""Keeping candidates that are far apart."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.remedies.base import Choice, Pool
from collapse_sim.remedies.row_vectors import check_vectors, require_finite, squared_distances, vectors
from collapse_sim.remedies.selection import Selection

PAIRED = 1000  # candidates whose pair distances decide where the threshold begins


class Diversity(Selection):
    """Candidates that are far apart, so that the entropy of what is kept is large (Shi et al. 2025, arXiv 2509.16499).

    `farthest_point` starts with a random candidate and adds the one that is farthest from all kept ones, again and
    again. `threshold_decay` goes through the candidates in random order and keeps each that is farther than a threshold
    from all kept ones; after every pass the threshold is multiplied by `decay` if the pass has kept none. Distances are
    Euclidean, between coordinates, intensities or the texts' shares of tokens. Time grows with kept x candidates. Equal
    candidates are kept only once all others are.

    `spread` in the report is the mean distance of a kept row from the nearest other kept one.
    """

    method: Literal["farthest_point", "threshold_decay"] = "farthest_point"
    """How candidates are chosen."""
    start: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    """threshold_decay: the first threshold, as a quantile of the distances between candidates."""
    decay: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    """threshold_decay: the factor of the threshold after a pass without a row."""

    @model_validator(mode="after")
    def _thresholds_are_for_threshold_decay(self) -> Self:
        for name in ("start", "decay"):
            if self.method != "threshold_decay" and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"`{name}` is for `method: threshold_decay`, found {self.method}: leave it out")
        return self

    @property
    def keeps_all(self) -> bool:
        return self.keep == 1.0

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        """Raises ValueError for rows that are not vectors."""
        check_vectors(info)

    def choose(self, pool: Pool, rows: int, draws: Draws) -> Choice:
        features = require_finite(vectors(pool.columns, pool.info), "candidates")
        order = draws.permutation(len(features)).numpy()
        if self.method == "farthest_point":
            kept = farthest_points(features[order], rows)
        else:
            kept = self._by_threshold(features[order], rows)
        index = np.sort(order[kept])
        return Choice(torch.from_numpy(index), report={"spread": spread(features[index])})

    def _by_threshold(self, features: np.ndarray, rows: int) -> np.ndarray:
        """Places of the kept rows, which are in random order."""
        some = np.sqrt(squared_distances(features[:PAIRED], features[:PAIRED]))
        threshold = float(np.quantile(some[np.triu_indices(len(some), 1)], self.start)) if len(some) > 1 else 0.0
        nearest = np.full(len(features), np.inf)  # the distance from the nearest kept row; -1: kept
        kept: list[int] = []
        while len(kept) < rows:
            before = len(kept)
            for i in range(len(features)):
                if nearest[i] > threshold:
                    nearest = np.minimum(nearest, np.sqrt(squared_distances(features[i : i + 1], features)[0]))
                    nearest[i] = -1.0
                    kept.append(i)
                    if len(kept) == rows:
                        break
            if not nearest.max() > 0:  # only equals of kept rows are left
                kept += np.flatnonzero(nearest == 0)[: rows - len(kept)].tolist()
            elif len(kept) == before:
                threshold *= self.decay
        return np.array(kept)


def farthest_points(features: np.ndarray, rows: int) -> np.ndarray:
    """Places of `rows` rows (n, F): the first one, and then always the one farthest from all before it."""
    kept = np.zeros(rows, dtype=np.int64)
    nearest = squared_distances(features[:1], features)[0]
    nearest[0] = -1.0
    for i in range(1, rows):
        kept[i] = nearest.argmax()
        nearest = np.minimum(nearest, squared_distances(features[kept[i] : kept[i] + 1], features)[0])
        nearest[kept[i]] = -1.0
    return kept


def spread(features: np.ndarray) -> float:
    """The mean distance of a row from the nearest other one; nan for a single row."""
    from scipy.spatial import cKDTree

    if len(features) < 2:
        return float("nan")
    distances, _ = cKDTree(features).query(features, k=2)
    return float(distances[:, 1].mean())
