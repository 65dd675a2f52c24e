"""Drawing rows so that row i is the same however many rows are drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from collapse_sim.randomness import Draws

BLOCK_ROWS = 256


def normal_rows(draws: Draws, rows: int, width: int) -> Tensor:
    """Standard normal rows: (rows, width), or (S, rows, width) with stacked draws.

    torch.randn(n) is no prefix of torch.randn(m) for n < m, so whole blocks of one size are drawn and cut.
    """
    blocks = [draws.normal(BLOCK_ROWS, width) for _ in range(-(-rows // BLOCK_ROWS))]
    return torch.cat(blocks, dim=-2).narrow(-2, 0, rows)
