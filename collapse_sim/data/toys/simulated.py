"""Drawing rows so that row i is the same however many rows are drawn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from collapse_sim.core.randomness import Draws

BLOCK_ROWS = 256


def normal_rows(draws: Draws, rows: int, width: int) -> Tensor:
    """Standard normal rows: (rows, width), or (S, rows, width) with stacked draws."""
    return in_blocks(rows, lambda block_rows: draws.normal(block_rows, width))


def in_blocks(rows: int, block: Callable[[int], Tensor]) -> Tensor:
    """(rows, width), or (S, rows, width), from blocks of one size: `block(n)` draws n rows and computes what they are.

    torch.randn(n) is no prefix of torch.randn(m) for n < m, and vectorised functions may round the last few entries of
    a tensor differently, so whole blocks are made and cut.
    """
    blocks = [block(BLOCK_ROWS) for _ in range(-(-rows // BLOCK_ROWS))]
    return torch.cat(blocks, dim=-2).narrow(-2, 0, rows)
