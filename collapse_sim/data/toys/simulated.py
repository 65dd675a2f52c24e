"""Draws rows such that row i does not depend on the number of rows."""

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
    """(rows, width), or (S, rows, width), from blocks of equal size: `block(n)` draws and computes n rows.

    torch.randn(n) is not a prefix of torch.randn(m) for n < m, and vectorised functions may round the last few entries
    of a tensor differently, so complete blocks are drawn and then cut.
    """
    blocks = [block(BLOCK_ROWS) for _ in range(-(-rows // BLOCK_ROWS))]
    return torch.cat(blocks, dim=-2).narrow(-2, 0, rows)
