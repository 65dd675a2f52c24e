"""The spectrum of the features' covariance, and the spread of samples under generation 0's encoder."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from collapse_sim.families.gaussian import Gaussian
from collapse_sim.families.vae import VAE
from collapse_sim.metrics.base import FeatureSpace
from collapse_sim.metrics.spread import EffectiveRank, LatentStd, ParticipationRatio, TailVariance
from tests.metrics.test_features import normal

RANKS = (EffectiveRank, ParticipationRatio)


def with_variances(*variances: float, turned: bool = True) -> Tensor:
    """Rows whose covariance has exactly these eigenvalues."""
    d = len(variances)
    corners = torch.cat([torch.eye(d), -torch.eye(d)]).double()
    scale = torch.tensor(variances, dtype=torch.float64).mul((2 * d - 1) / 2).sqrt()
    turn = torch.linalg.qr(normal(d, d, 7).double()).Q if turned else torch.eye(d, dtype=torch.float64)
    return ((corners * scale) @ turn + 3).float()


@pytest.fixture
def score(evaluation):
    def run(metric, samples: Tensor, real: Tensor | None = None, held_out: Tensor | None = None) -> float:
        given = {"samples features": samples, "real features": real, "held_out features": held_out}
        seen = evaluation({name: rows for name, rows in given.items() if rows is not None})
        value = metric.score(seen)
        assert isinstance(value, float)
        return value

    return run


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("d", [1, 2, 16])
def test_alike_in_d_directions(rank, d, score):
    assert score(rank(), with_variances(*[0.3] * d)) == pytest.approx(d, rel=1e-5)
    flat = torch.cat([with_variances(*[0.3] * d), torch.full((2 * d, 5), 0.1)], 1)  # and none in five others
    assert score(rank(), flat) == pytest.approx(d, rel=1e-5)


@pytest.mark.parametrize("rank", RANKS)
def test_a_line_is_one_dimension_and_a_point_none(rank, score):
    line = normal(50, 1, 1) @ normal(1, 8, 2)
    assert score(rank(), line) == pytest.approx(1, abs=1e-6)
    assert score(rank(), line[:1].expand(20, 8)) == 0


def test_definitions(score):
    p = np.array([0.6, 0.3, 0.1])
    rows = with_variances(6.0, 3.0, 1.0)
    assert score(EffectiveRank(), rows) == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-5)
    assert score(ParticipationRatio(), rows) == pytest.approx(1 / (p**2).sum(), rel=1e-5)
    x = normal(40, 6, 5) * torch.tensor([3.0, 2, 1, 1, 0.5, 0.1])
    values = np.linalg.eigvalsh(np.cov(x.double().numpy().T))
    assert score(ParticipationRatio(), x) == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-9)
    entropy = -(values / values.sum() * np.log(values / values.sum())).sum()
    assert score(EffectiveRank(), x) == pytest.approx(math.exp(entropy), rel=1e-9)


@pytest.mark.parametrize("rank", RANKS)
def test_relative_uses_equal_numbers_of_rows(rank, score):
    """Few rows make it smaller, which the ratio of equal numbers takes away."""
    d = 24
    few, many = normal(40, d, 1), normal(4000, d, 2)
    own = score(rank(), few)
    assert own < 0.85 * d
    for against in ("held_out", "real"):
        metric = rank(relative=True, against=against)
        ratios = [score(metric, normal(40, d, 10 + 2 * i), **{against: normal(4000, d, 11 + 2 * i)}) for i in range(12)]
        assert np.mean(ratios) == pytest.approx(1, abs=0.05)
    assert score(rank(rows=40), many) == pytest.approx(own, rel=0.15)
    half = torch.cat([normal(40, d // 2, 3), torch.zeros(40, d // 2)], 1)
    assert score(rank(relative=True), half, held_out=many) == pytest.approx(0.58, abs=0.1)


def test_bias_of_white_features(score):
    """The participation ratio of n rows of d white features is about n d / (n + d)."""
    found = [score(ParticipationRatio(), normal(64, 32, seed)) for seed in range(20)]
    assert np.mean(found) == pytest.approx(64 * 32 / (64 + 32), rel=0.03)


def test_tail_is_one_for_fresh_rows(score):
    """With few rows, too: held-out rows take no part in the choice of directions."""
    scale = torch.tensor([3.0, 2, 1, 1, 0.5, 0.5, 0.1, 0.1])
    found = [score(TailVariance(), *(normal(30, 8, 3 * i + j) * scale for j in range(3))) for i in range(60)]
    assert np.median(found) == pytest.approx(1, abs=0.15)


def test_tail_sees_what_the_ranks_hardly_do(score):
    scale = torch.tensor([3.0, 2, 1, 0.5, 0.3, 0.2])
    real, held_out, samples = (normal(2000, 6, i) * scale for i in range(3))
    assert score(TailVariance(), samples, real, held_out) == pytest.approx(1, abs=0.1)
    cut = samples * torch.tensor([1.0, 1, 1, 0, 0, 0])
    assert score(TailVariance(share=0.03), cut, real, held_out) < 0.02
    assert score(EffectiveRank(relative=True), cut, held_out=held_out) > 0.8
    noisy = samples + normal(2000, 6, 9)
    assert score(TailVariance(share=0.03), noisy, real, held_out) > 3


def test_tail_leaves_out_what_never_varies(score):
    """The border of digits: black in all real rows."""
    real, held_out = normal(50, 3, 1), normal(50, 3, 2)
    border = torch.cat([real, torch.zeros(50, 4)], 1)
    samples = torch.cat([normal(50, 3, 3), torch.zeros(50, 4)], 1)
    assert 0.3 < score(TailVariance(), samples, border, torch.cat([held_out, torch.zeros(50, 4)], 1)) < 3
    assert math.isnan(score(TailVariance(), samples, torch.zeros(50, 7), border))


def test_tail_by_hand(score):
    real = with_variances(8.0, 1.5, 0.5, turned=False)
    held_out, samples = with_variances(8.0, 2.0, 2.0, turned=False), with_variances(1.0, 1.0, 0.5, turned=False)
    assert score(TailVariance(share=0.1), samples, real, held_out) == pytest.approx(0.5 / 2, rel=1e-5)
    assert score(TailVariance(share=0.2), samples, real, held_out) == pytest.approx(1.5 / 4, rel=1e-5)
    assert score(TailVariance(share=0.01), samples, real, held_out) == pytest.approx(0.5 / 2, rel=1e-5)  # one at least


def test_needs_checks_and_facts(digits_info):
    assert EffectiveRank().needs == ("samples",)
    assert EffectiveRank(relative=True).needs == ("samples", "held_out")
    assert EffectiveRank(against="real").describe() == EffectiveRank().describe()
    assert EffectiveRank(relative=True).unit == "relative to real rows"
    space = FeatureSpace("classifier 12345678", 64)
    said = EffectiveRank(relative=True).metric_note(digits_info, 500, space).note
    assert said.startswith("360 of 500 samples against 360 held-out rows; classifier 12345678; few rows for 64")
    assert EffectiveRank().metric_note(digits_info, 640, space).note == "640 samples; classifier 12345678"
    bare = dataclasses.replace(digits_info, held_out=1)
    for metric in (EffectiveRank(relative=True), TailVariance()):
        with pytest.raises(ValueError, match=r"too few held.out rows: 1"):
            metric.check(bare, None, 100)
        metric.check(digits_info, None, 100)
    with pytest.raises(ValueError, match="too few samples: 1"):
        ParticipationRatio().check(digits_info, None, 1)
    with pytest.raises(ValueError, match=r"rows to use \(`rows`\): 1"):
        ParticipationRatio(rows=1).check(digits_info, None, 100)


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
