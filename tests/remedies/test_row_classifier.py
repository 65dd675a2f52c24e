"""The classifier of real against generated rows: log odds of known densities, and of rows that it has not seen."""

from __future__ import annotations

import math

import pytest
import torch

from collapse_sim.families.vae import VAE
from collapse_sim.remedies.row_classifier import RowClassifier
from tests.families.wording import TEXT

from .candidate_pools import curation_draws, images, normal, points

N, SD = 20_000, 0.6


def test_it_knows_the_log_odds_of_gaussians_for_any_rows():
    """log r(x) / s(x) of N(0, 1) against N(0, .36) is quadratic, so the regression has it up to estimation."""
    classifier = RowClassifier()
    fitted = classifier.fit(points(SD * normal(N), normal(N, seed=1)), curation_draws())
    x = torch.linspace(-1, 1, 31, dtype=torch.float64)[:, None]
    exact = (-(x**2) / 2 + (x / SD) ** 2 / 2 + math.log(SD))[:, 0]
    odds = classifier.log_odds(points(x, normal(5)), fitted)
    torch.testing.assert_close(odds, exact, atol=0.1, rtol=0)
    assert 0.55 < fitted.report["auc"] < 0.75


def test_a_rows_score_does_not_depend_on_other_candidates_or_real_rows():
    classifier = RowClassifier()
    fitted = classifier.fit(points(SD * normal(300, 2), normal(300, 2, seed=1)), curation_draws())
    x = normal(40, 2, seed=2)
    together = classifier.log_odds(points(x, normal(300, 2, seed=1)), fitted)
    torch.testing.assert_close(classifier.log_odds(points(x[:7], normal(9, 2, seed=8)), fitted), together[:7])


def test_radial_features_see_what_products_do_not():
    """Two modes at -1 and 1 against a Gaussian of the same mean and variance."""
    signs = torch.randint(0, 2, (2000, 1), generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    real, x = signs * math.sqrt(0.99) + 0.1 * normal(2000), normal(2000, seed=1)
    pool = points(x, real)
    quadratic, radial = (RowClassifier(features=features) for features in ("quadratic", "rbf"))
    assert quadratic.fit(pool, curation_draws()).report["auc"] < 0.6
    fitted = radial.fit(pool, curation_draws())
    assert fitted.report["auc"] > 0.8
    between, mode = radial.log_odds(points(torch.tensor([[0.0], [1.0]], dtype=torch.float64), real), fitted).tolist()
    assert between < 0 < mode


def test_images_are_reduced_to_principal_components():
    generator = torch.Generator().manual_seed(0)
    real, generated = (
        torch.randint(0, high, (80, 1, 8, 8), generator=generator, dtype=torch.uint8) for high in (255, 128)
    )
    classifier = RowClassifier()
    fitted = classifier.fit(images(generated, real), curation_draws())
    assert fitted.report["auc"] > 0.9
    assert fitted.tensors["rows/components"].shape == (20, 64)
    of_real, of_generated = (classifier.log_odds(images(rows, real), fitted) for rows in (real, generated))
    assert float(of_real.mean()) > 1 > -1 > float(of_generated.mean())


@pytest.mark.parametrize(("generated", "real"), [(9, 50), (50, 9)])
def test_too_few_rows(generated, real):
    with pytest.raises(ValueError, match=f"{generated} samples and {real} real rows are too few"):
        RowClassifier().fit(points(normal(generated), normal(real, seed=1)), curation_draws())


def test_texts_need_a_model_of_tokens():
    with pytest.raises(ValueError, match="which VAE models do not offer: use causal_lm or seq2seq"):
        RowClassifier().check(TEXT, VAE())
