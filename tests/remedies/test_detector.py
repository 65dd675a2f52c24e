"""The detector: exact probabilities give back the truth with b = 1 and overshoot with b = 10; calibration, limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from collapse_sim.data.point_files import PointFiles
from collapse_sim.data.toys.gaussian_points import GaussianPoints
from collapse_sim.families.gaussian import Gaussian
from collapse_sim.families.vae import VAE
from collapse_sim.remedies.detector import Detector, calibration_error
from tests.families.small_rows import IMAGES, POINTS
from tests.families.wording import TEXT
from tests.remedies.candidate_pools import curation_draws, images, normal, points

N, SD = 20_000, 0.6  # half of a pool real, N(0, 1), half generated, N(0, .36)


def mixed_pool(seed=0):
    x = torch.cat([normal(N, 1, seed), SD * normal(N, 1, seed + 1000)])
    losses = (x[:, 0] / SD).square() / 2 + math.log(SD * math.sqrt(2 * math.pi))
    return points(x, normal(N, 1, seed + 2000), losses=lambda judge: losses)


def weighted_variance(b):
    """The variance of the pool's density times (1 - p)^b, by quadrature."""
    x = np.linspace(-12, 12, 200_001)
    r, s = np.exp(-(x**2) / 2), np.exp(-((x / SD) ** 2) / 2) / SD
    density = (r + s) * (r / (r + s)) ** b
    return float((density * x**2).sum() / density.sum())


@pytest.mark.parametrize(("b", "variance", "effective"), [(1, 1.0, 0.91), (2, 1.43, 0.66), (10, 4.3, 0.07)])
def test_an_exact_detector_gives_back_the_truth_and_overshoots(b, variance, effective):
    assert weighted_variance(b) == pytest.approx(variance, abs=0.06)
    detector = Detector(p="exact", b=b, by="weights", pool="past")
    pool = mixed_pool()
    choice = detector.choose(pool, 2 * N, curation_draws())
    x, w = pool.columns["x"][choice.index, 0], choice.weights.double()
    assert float(w.mean()) == pytest.approx(1, abs=1e-4)
    estimate = float((w * x.square()).mean())
    error = float((w * (x.square() - estimate)).std() / math.sqrt(2 * N))
    assert abs(estimate - weighted_variance(b)) < 3 * error
    assert choice.report["effective_share"] == pytest.approx(effective, abs=0.02)


def test_resampling_has_the_weights_distribution():
    """Few drawn among many copies: nearly independent draws."""
    detector = Detector(p="exact", b=1, repeats=50, oversample=0.1, pool="past")
    pool = mixed_pool()
    x = pool.columns["x"][detector.choose(pool, 4000, curation_draws()).index, 0]
    assert float(pool.columns["x"].var()) == pytest.approx(0.68, abs=0.02)
    assert abs(float(x.square().mean()) - 1) < 3 * float(x.square().std() / math.sqrt(4000))
    harder = Detector(p="exact", b=10, repeats=50, oversample=0.01, pool="past")
    x = pool.columns["x"][harder.choose(pool, 400, curation_draws()).index, 0]
    assert float(x.square().mean()) > 3


def test_a_candidate_is_kept_at_most_so_many_times():
    pool = mixed_pool()
    for repeats in (1, 3):
        detector = Detector(p="exact", repeats=repeats, pool="past")
        choice = detector.choose(pool, N, curation_draws())
        assert choice.index.equal(choice.index.sort().values)
        assert int(choice.index.bincount().max()) == repeats


def test_settings_that_keep_all():
    assert Detector(repeats=1).keeps_all
    assert not Detector().keeps_all
    x = normal(100, 1)
    choice = Detector(repeats=1, folds=2).choose(points(x, normal(100, 1, 1)), 100, curation_draws())
    assert choice.index.tolist() == list(range(100))
    assert Detector().candidates(100) == 100
    assert Detector(oversample=0.5).candidates(100) == 200


def test_a_fitted_detector_knows_the_log_odds_of_gaussians():
    """Quadratic log odds are exact here, so the weights are, up to estimation."""
    x, real = SD * normal(N, 1, 1), normal(N, 1, 2)
    choice = Detector(b=1, by="weights").choose(points(x, real), N, curation_draws())
    r, s = torch.exp(-x[:, 0].square() / 2), torch.exp(-(x[:, 0] / SD).square() / 2) / SD
    expected = r / (r + s)
    torch.testing.assert_close(choice.weights.double(), expected / expected.mean(), atol=0.08, rtol=0.08)
    assert 0.55 < choice.report["auc"] < 0.75
    assert choice.report["ece"] < 0.03


def test_a_fitted_detector_of_a_pool_with_real_rows():
    """p = 1 - w (1 - q) / q: half of the pool is real, so weights are proportional to r / ((r + s) / 2)."""
    pool = mixed_pool()
    choice = Detector(b=1, by="weights", pool="past").choose(pool, 2 * N, curation_draws())
    x = pool.columns["x"][:, 0]
    variance = float((choice.weights.double() * x.square()).mean())
    assert variance == pytest.approx(1.0, abs=0.12)
    assert variance > float(x.var()) + 0.15


def test_nothing_to_detect():
    choice = Detector().choose(points(normal(1000, 2), normal(1000, 2, 1)), 1000, curation_draws())
    assert choice.report["auc"] == pytest.approx(0.5, abs=0.05)
    assert choice.report["effective_share"] > 0.5


def test_radial_features_see_what_products_do_not():
    """Two modes at -1 and 1 against a Gaussian of the same mean and variance."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (2000, 1), generator=generator).double() * 2 - 1
    real, x = signs * math.sqrt(0.99) + 0.1 * normal(2000, 1), normal(2000, 1, 1)
    quadratic, radial = (
        Detector(features=features).choose(points(x, real), 2000, curation_draws()).report["auc"]
        for features in ("quadratic", "rbf")
    )
    assert quadratic < 0.6
    assert radial > 0.8


def test_real_rows_among_the_candidates_do_not_decide_about_themselves():
    """Few rows of many products: a fit to one copy would know the other."""
    real = normal(60, 6)
    report = Detector(b=1, pool="past").choose(points(real.clone(), real), 60, curation_draws()).report
    assert report["auc"] == pytest.approx(0.5, abs=0.1)
    assert report["effective_share"] > 0.5


def test_images_are_told_apart_out_of_fold():
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (300, 1, 8, 8), generator=generator, dtype=torch.uint8)
    dark, same = real // 2, torch.randint(0, 256, (300, 1, 8, 8), generator=generator, dtype=torch.uint8)
    assert Detector(b=1).choose(images(dark, real), 300, curation_draws()).report["auc"] > 0.95
    assert Detector(b=1).choose(images(same, real), 300, curation_draws()).report["auc"] < 0.65


def test_calibration_error_by_hand():
    logits = np.log(np.array([0.25, 0.25, 0.25, 0.25, 0.75, 0.75]) / np.array([0.75, 0.75, 0.75, 0.75, 0.25, 0.25]))
    labels = np.array([0, 0, 0, 1, 0, 1])
    assert calibration_error(logits, labels, np.ones(6)) == pytest.approx(2 / 6 * 0.25)
    weights = np.array([1, 1, 1, 1, 1, 3.0])
    assert calibration_error(logits, labels, weights) == pytest.approx(0, abs=1e-9)


def test_too_few_that_may_be_real():
    x = torch.tensor([[0.0], *[[1e200]] * 99], dtype=torch.float64)
    pool = points(x, normal(100, 1), losses=lambda judge: torch.zeros(100, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"50 rows are needed, and resampling gives 3: 100 candidates, of which 1 may"):
        Detector(p="exact", pool="past").choose(pool, 50, curation_draws())
    with pytest.raises(ValueError, match="too few for 5 folds"):
        Detector().choose(points(normal(9, 1), normal(100, 1)), 9, curation_draws())


def test_undecided_and_hopeless_detectors_say_so():
    x = torch.full((10, 1), 1e200, dtype=torch.float64)
    pool = points(x, normal(10, 1), losses=lambda judge: torch.zeros(10, dtype=torch.float64))
    with pytest.raises(ValueError, match="gives no candidate a chance"):
        Detector(p="exact").choose(pool, 10, curation_draws())
    undecided = points(x, normal(10, 1), losses=lambda judge: torch.full((10,), torch.nan, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"undecided \(nan\) about 10"):
        Detector(p="exact").choose(undecided, 10, curation_draws())


def test_checks_before_anything_runs():
    known = GaussianPoints().inspect(None)
    Detector(p="exact").check(GaussianPoints(), known, Gaussian())
    with pytest.raises(ValueError, match="exact needs the true density of simulated data"):
        Detector(p="exact").check(PointFiles(path="p.npy"), POINTS, Gaussian())
    with pytest.raises(ValueError, match="the loss of VAE is not -log p of a row"):
        Detector(p="exact").check(GaussianPoints(), known, VAE())
    with pytest.raises(ValueError, match="probabilities of their tokens, which Gaussian models do not offer"):
        Detector().check(None, TEXT, Gaussian())
    Detector().check(None, IMAGES, VAE())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"p": "exact", "features": "rbf"}, "`features` has no meaning with `p: exact`"),
        ({"p": "exact", "folds": 3}, "`folds` has no meaning with `p: exact`"),
        ({"by": "weights", "repeats": 2}, "`repeats` has no meaning with `by: weights`"),
        ({"by": "weights", "oversample": 1.0}, "`oversample` has no meaning with `by: weights`"),
    ],
)
def test_settings_that_would_change_nothing_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Detector(**settings)
