"""Distances between sets of rows, in pieces, so that 10,000 x 10,000 rows fit in memory; float64 throughout."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from collapse_sim.core.content_cache import content_cache

PIECE = 2**21  # distances at a time: 16 MB


def squared_distances(a: Tensor, b: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(first row, squared Euclidean distances (rows, m)) for consecutive pieces of a (n, F) against b (m, F).

    Differences below 3e-7 of the vectors' lengths are set to 0: they are rounding errors of float32 features, and equal
    rows must have distance 0.
    """
    a, b = a.double(), b.double()
    b_square = b.square().sum(1)
    size = max(1, PIECE // max(1, len(b)))
    for first in range(0, len(a), size):
        piece = a[first : first + size]
        scale = piece.square().sum(1, keepdim=True) + b_square
        squares = torch.addmm(scale, piece, b.T, alpha=-2)
        yield first, squares.masked_fill_(squares < 1e-13 * scale, 0.0)


@content_cache
def squared_radii(rows: Tensor, k: int) -> Tensor:
    """Squared distance of every row (n, F) to its k-th nearest among the others: (n,). Needs n > k."""
    radii = []
    for first, squares in squared_distances(rows, rows):
        squares[torch.arange(len(squares)), torch.arange(first, first + len(squares))] = (
            torch.inf
        )  # not its own neighbour
        radii.append(squares.topk(k, dim=1, largest=False).values[:, -1])
    return torch.cat(radii)


def inside(rows: Tensor, centres: Tensor, k: int) -> Tensor:
    """bool (n,): which `rows` are in the union of closed balls around `centres` up to their k-th nearest neighbours."""
    radii = squared_radii(centres, k)
    return torch.cat([(squares <= radii).any(1) for _, squares in squared_distances(rows, centres)])


def share_inside(rows: Tensor, centres: Tensor, k: int) -> float:
    """Share of `rows` that are `inside`."""
    return int(inside(rows, centres, k).sum()) / len(rows)


def squared_nearest(rows: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) squared distance of every row (n, F) to its nearest among `others` (m, F), and (n,) the index of that."""
    minima = [squares.min(1) for _, squares in squared_distances(rows, others)]
    return torch.cat([piece.values for piece in minima]), torch.cat([piece.indices for piece in minima])


def covered(rows: Tensor, others: Tensor, k: int) -> Tensor:
    """bool (n,): which `rows` have one of the `others` nearer than their own k-th nearest among the other rows."""
    radii = squared_radii(rows, k)
    near = [squares.amin(1) < radii[first : first + len(squares)] for first, squares in squared_distances(rows, others)]
    return torch.cat(near)
