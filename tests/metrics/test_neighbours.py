"""Distances in pieces."""

from __future__ import annotations

import pytest
import torch

from collapse_sim.metrics import neighbours
from collapse_sim.metrics.neighbours import covered, share_inside, squared_distances, squared_radii


def test_distances_are_exact_in_any_piece(monkeypatch):
    a, b = torch.randn(17, 5) + 30, torch.randn(11, 5) + 30
    expected = (a.double()[:, None] - b.double()[None]).square().sum(-1)
    for piece in (1, 25, 10**6):
        monkeypatch.setattr(neighbours, "PIECE", piece)
        pieces = list(squared_distances(a, b))
        assert [first for first, _ in pieces] == [sum(len(p) for _, p in pieces[:i]) for i in range(len(pieces))]
        torch.testing.assert_close(torch.cat([p for _, p in pieces]), expected, rtol=1e-8, atol=0)


def test_equal_rows_are_at_distance_zero():
    rows = torch.randn(50, 64) * 1000
    (_, squares), *_ = squared_distances(rows, rows.clone())
    assert squares.diagonal().eq(0).all()
    assert (squares[~torch.eye(50, dtype=torch.bool)] > 0).all()


@pytest.mark.parametrize("k", [1, 2, 4])
def test_radii_leave_the_row_itself_out(k):
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0], [15.0]])
    expected = [
        sorted(abs(a - b) for j, b in enumerate(line[:, 0]) if j != i)[k - 1] ** 2 for i, a in enumerate(line[:, 0])
    ]
    assert squared_radii(line, k).tolist() == pytest.approx([float(e) for e in expected])


def test_share_inside_counts_the_rim():
    centres = torch.tensor([[0.0], [2.0]])  # both balls have radius 2
    rows = torch.tensor([[-2.0], [4.0], [1.0], [-2.1], [4.1]])
    assert share_inside(rows, centres, 1) == pytest.approx(3 / 5)


def test_covered_rows_pair_by_pair():
    """Naeem et al. 2020, with open balls up to the k-th nearest other row."""
    generator = torch.Generator().manual_seed(5)
    rows, others = (torch.randn(n, 2, generator=generator) for n in (30, 20))
    distances = torch.cdist(rows.double(), rows.double())
    distances.fill_diagonal_(torch.inf)
    radii = distances.sort(1).values[:, 2]
    expected = [
        bool((torch.cdist(row[None].double(), others.double())[0] < radius).any())
        for row, radius in zip(rows, radii, strict=True)
    ]
    assert covered(rows, others, 3).tolist() == expected
    assert 0 < sum(expected) < 30
