"""Keeping the candidates whose removal would move the pool farthest away from the real rows."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.remedies.base import Choice, Pool
from collapse_sim.remedies.row_vectors import check_vectors, require_finite, squared_distances, vectors
from collapse_sim.remedies.selection import Selection, best

TOLERANCE = 1e-4  # of the marginals
ITERATIONS = 500


class Transport(Selection):
    """Candidates with the lowest optimal transport gradient against real rows (Qiao et al. 2026, arXiv 2606.13732).

    With f the dual potential of entropic optimal transport from the candidates to the real rows, of squared Euclidean
    cost, candidate i has the score S_i = f(x_i) - mean of f(x_j) over j != i: the change of the cost as its weight
    grows. The lowest ones are kept. The paper draws four candidates for each row (`keep: 0.25`). Sinkhorn's iterations
    are POT's, in the log domain. Memory and time grow with candidates x real rows.

    The report has the transport costs between real rows and all candidates (`cost_of_all`), kept ones (`cost_of_kept`),
    and the error of the marginals (`marginal_error`), which is large if Sinkhorn's iterations did not converge.
    """

    epsilon: Annotated[float, Field(gt=0.0)] = 0.1
    """Weight of the entropy, relative to the mean cost between a candidate and a real row."""
    reference: Annotated[int, Field(ge=2)] = 500
    """Maximum number of real rows, drawn without replacement."""

    @property
    def keeps_all(self) -> bool:
        return self.keep == 1.0

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        """Raises ValueError for rows that are not vectors."""
        check_vectors(info)

    def choose(self, pool: Pool, rows: int, draws: Draws) -> Choice:
        real = vectors(pool.real(), pool.info)
        real = real[draws.permutation(len(real))[: self.reference].numpy()]
        costs = squared_distances(require_finite(vectors(pool.columns, pool.info), "candidates"), real)
        if not costs.max() > 0:
            raise ValueError("all candidates and real rows are the same row, so no candidate is nearer than another")
        potential, cost, error = potentials(costs, self.epsilon)
        n = len(potential)
        others = (potential.sum() - potential) / max(1, n - 1)
        index = best(torch.from_numpy(others - potential), rows, draws)
        _, cost_of_kept, _ = potentials(costs[index.numpy()], self.epsilon)
        figures = {"cost_of_all": cost, "cost_of_kept": cost_of_kept, "marginal_error": error}
        return Choice(index, report=figures)


def potentials(costs: np.ndarray, epsilon: float) -> tuple[np.ndarray, float, float]:
    """(n,) dual potentials of the rows of costs (n, m) between equal weights, the transport cost, and the error of the
    marginals. `epsilon` is relative to the mean cost."""
    import ot

    n, m = costs.shape
    scale = costs.mean()
    plan, log = ot.bregman.sinkhorn_log(
        np.full(n, 1 / n), np.full(m, 1 / m), costs / scale, epsilon, ITERATIONS, TOLERANCE, log=True, warn=False
    )
    error = max(np.abs(plan.sum(1) - 1 / n).sum(), np.abs(plan.sum(0) - 1 / m).sum())
    return epsilon * scale * log["log_u"], float((plan * costs).sum()), float(error)
