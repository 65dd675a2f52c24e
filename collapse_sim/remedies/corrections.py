"""Curations that move generated rows towards real ones (self-correction, Gillman et al. 2024)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.families.base import ModelFamily, intensities
from collapse_sim.remedies.base import Choice, Pool
from collapse_sim.remedies.row_vectors import require_finite, squared_distances, vectors

STARTS = 4  # of k-means


class Correction(Component):
    """Base: every sample of a generation is kept, and changed."""

    pool: ClassVar[Literal["generation", "past"]] = "generation"

    def candidates(self, rows: int) -> int:
        """As many as are kept."""
        return rows

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        """Raises ValueError unless rows are points or images."""
        if info.kind not in ("points", "images"):
            raise ValueError(
                f"it moves rows towards real ones, so it needs points or images; this data is of the kind {info.kind}. "
                "For texts use `edit`"
            )


class Snap(Correction):
    """Every sample becomes the nearest of the k-means centres of the real rows (Gillman et al. 2024, arXiv 2402.07087).

    With labels there are `centres` for each class, and a sample that has a label goes to the nearest one of its class;
    without, `centres` in all. The centres are fitted again for every generation. What is generated afterwards is no
    more diverse than the centres: look at recall and coverage beside precision.

    `moved` in the report is the root mean square distance between samples and their centres.
    """

    centres: Annotated[int, Field(gt=0)] = 16
    """Number of k-means centres, for each class if real rows have labels."""

    def choose(self, pool: Pool, rows: int, draws: Draws) -> Choice:
        real_columns, index = pool.real(), torch.arange(rows)
        real = vectors(real_columns, pool.info)
        given = require_finite(vectors(pool.columns, pool.info)[:rows], "candidates")
        labels = real_columns["label"].numpy() if "label" in real_columns else np.zeros(len(real), dtype=np.int64)
        own = pool.columns["label"].numpy()[:rows] if "label" in pool.columns else None
        centres, classes = [], []
        for label in np.unique(labels):
            fitted = self._fitted(real[labels == label], draws)
            centres.append(fitted)
            classes.append(np.full(len(fitted), label))
        places, of = np.concatenate(centres), np.concatenate(classes)
        distances = squared_distances(given, places)
        if own is not None and "label" in real_columns:
            unknown = sorted({*own.tolist()} - {*labels.tolist()})
            if unknown:
                raise ValueError(f"samples have the label {unknown[0]}, which no real row has")
            distances = np.where(own[:, None] == of[None, :], distances, np.inf)
        nearest = distances.argmin(1)
        moved = float(np.sqrt(distances[np.arange(rows), nearest].mean()))
        return Choice(index, columns=_changed(pool, rows, places[nearest]), report={"moved": moved})

    def _fitted(self, real: np.ndarray, draws: Draws) -> np.ndarray:
        """(at most `centres`, F)"""
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        different = np.unique(real, axis=0)
        start = int(draws.integers(2**31 - 1, 1))
        if len(different) <= self.centres:
            return different
        with threadpool_limits(limits=1):
            centres: np.ndarray = KMeans(self.centres, n_init=STARTS, random_state=start).fit(real).cluster_centers_
        return centres


class Pull(Correction):
    """Every sample moves towards a real row: x <- t x_real + (1 - t) x, t = g / (1 + g) (Gillman et al. 2024).

    Which real row is decided by optimal assignment of the samples to as many real ones, of squared Euclidean distance
    (the optimal transport variant of arXiv 2402.07087). Real rows are drawn without replacement, all of them before one
    is drawn again. More than `block` samples are assigned in blocks, since time grows with the cube of their number.

    Moving a share t of the way is not the ideal self-correction of the paper, a model of (p + g p*) / (1 + g): that one
    is the strategy `fresh` with the share g / (1 + g).

    `moved` in the report is the root mean square distance that samples move.
    """

    strength: Annotated[float, Field(ge=0.0)] = 1.0
    """g: 0 leaves samples as they are, 1 moves them half of the way."""
    block: Annotated[int, Field(gt=0)] = 2000
    """Samples that are assigned together."""

    @property
    def keeps_all(self) -> bool:
        return self.strength == 0

    def choose(self, pool: Pool, rows: int, draws: Draws) -> Choice:
        from scipy.optimize import linear_sum_assignment

        real = vectors(pool.real(), pool.info)
        given = require_finite(vectors(pool.columns, pool.info)[:rows], "candidates")
        passes = [draws.permutation(len(real)) for _ in range(-(-rows // len(real)))]
        real = real[torch.cat(passes)[:rows].numpy()]
        target = np.empty_like(given)
        for first in range(0, rows, self.block):
            part = slice(first, first + self.block)
            sample, row = linear_sum_assignment(squared_distances(given[part], real[part]))
            target[part][sample] = real[part][row]
        t = self.strength / (1 + self.strength)
        moved = t * float(np.sqrt(((target - given) ** 2).sum(1).mean()))
        columns = _changed(pool, rows, t * target + (1 - t) * given)
        return Choice(torch.arange(rows), columns=columns, report={"moved": moved})


def _changed(pool: Pool, rows: int, values: np.ndarray) -> dict[str, Tensor]:
    """The first `rows` candidates with other coordinates or intensities (rows, F) as in row_vectors.vectors."""
    columns = {name: column[:rows] for name, column in pool.columns.items()}
    name = "image" if pool.info.kind == "images" else "x"
    new = torch.from_numpy(values).reshape(columns[name].shape)
    columns[name] = intensities(new * 255) if name == "image" else new.to(columns[name].dtype)
    return columns
