"""Rows of token ids: where a text ends."""

from __future__ import annotations

import torch

from collapse_sim.families.token_rows import until_end


def test_until_end():
    rows = torch.tensor([[5, 0, 7, 0], [1, 2, 3, 4], [0, 0, 0, 0]])
    assert until_end(rows, 0).tolist() == [[5, 0, -1, -1], [1, 2, 3, 4], [0, -1, -1, -1]]
