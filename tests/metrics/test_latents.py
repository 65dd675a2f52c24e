"""Spread of samples under generation 0's encoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from collapse_sim.families.gaussian import Gaussian
from collapse_sim.families.vae import VAE
from collapse_sim.metrics.latents import LatentStd


class Encoder:
    """Latents are given: two affine functions of the first pixel."""

    columns = ("image",)

    def encode(self, model, rows):
        assert len(rows["image"]) <= 1000
        first = rows["image"].flatten(1)[:, 0].float()
        mean = model(torch.stack([2 * first, 5 - first], 1))
        return mean, torch.full_like(mean, 1e6)


def test_is_the_mean_over_dimensions_of_the_spread_of_means(evaluation):
    images = torch.randint(0, 256, (2500, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seen = evaluation({"origin": nn.Identity(), "samples rows": {"image": images}}, family=Encoder())
    spread = float(images[:, 0, 0, 0].double().std())
    assert LatentStd().score(seen) == pytest.approx((2 * spread + spread) / 2, rel=1e-12)
    assert seen.asked == set(LatentStd().needs)


def test_of_a_vae(evaluation, digits_info):
    torch.manual_seed(0)
    family = VAE(hidden=8, latent=3)
    origin = family.build(digits_info).eval()
    images = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        expected = origin.encode(images.flatten(1) / 255)[0].std(0).mean()
    given = {"origin": origin, "samples rows": {"image": images}}
    assert LatentStd().score(evaluation(given, family=family)) == pytest.approx(float(expected), rel=1e-5)
    given = {"origin": origin, "samples rows": {"image": images[:1].expand(50, 1, 8, 8)}}
    assert LatentStd().score(evaluation(given, family=family)) == pytest.approx(0, abs=1e-6)


def test_check(digits_info):
    LatentStd().check(digits_info, VAE(), 2)
    with pytest.raises(ValueError, match="needs a model with an encoder, but Gaussian has none"):
        LatentStd().check(digits_info, Gaussian(), 2)
    with pytest.raises(ValueError, match="at least 2 samples, found 1"):
        LatentStd().check(digits_info, VAE(), 1)
