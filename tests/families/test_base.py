"""What families share: products that are the same for a seed alone and in an ensemble."""

from __future__ import annotations

import pytest
import torch

from collapse_sim.families.base import matmul_per_seed


@pytest.mark.parametrize("inner", [1, 2, 7])
def test_a_product_has_the_bytes_that_a_seed_gets_alone(inner):
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(5, 30, inner, dtype=torch.float64, generator=generator)
    right = torch.randn(5, inner, 3, dtype=torch.float64, generator=generator)
    products = matmul_per_seed(left, right)
    for product, a, b in zip(products, left, right, strict=True):
        assert torch.equal(product, a @ b)
        assert torch.equal(product, matmul_per_seed(a[None], b[None])[0])
