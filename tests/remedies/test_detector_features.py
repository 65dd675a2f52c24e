"""What a detector looks at: statistics of tokens by hand, dimensions, and texts that are told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from collapse_sim.remedies.detector import Detector
from collapse_sim.remedies.detector_features import (
    COMPONENTS,
    LANDMARKS,
    _of_predictions,
    _of_tokens,
    detector_features,
    text_statistics,
)
from tests.families.wording import PAIRS, T5, TEXT, TINY, built, pairs, texts, unlike
from tests.remedies.candidate_pools import curation_draws, evaluated_by, images, normal, points, pool_of


def test_products_of_coordinates():
    """Standardised together: products of the same place are squares of the coordinates."""
    candidates, real = detector_features(points(normal(30, 3), normal(20, 3, 1) + 5), "quadratic", curation_draws())
    assert candidates.shape == (30, 3 + 6)
    assert real.shape == (20, 9)
    np.testing.assert_allclose(real[:, 3], real[:, 0] ** 2)
    np.testing.assert_allclose(np.concatenate([candidates, real])[:, :3].mean(0), 0, atol=1e-9)


def test_many_dimensions_are_reduced():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (60, 1, 8, 8), generator=generator, dtype=torch.uint8)
    candidates, _ = detector_features(images(pixels, pixels.flip(0)), "quadratic", curation_draws())
    assert candidates.shape == (60, COMPONENTS * (COMPONENTS + 3) // 2)
    radial, real = detector_features(points(normal(150, 2), normal(90, 2, 1)), "rbf", curation_draws())
    assert (radial.shape, real.shape) == ((150, LANDMARKS), (90, LANDMARKS))


def test_statistics_of_predictions_by_hand():
    p = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [1.0, 0.0, 0.0]]])
    stats = _of_predictions(p.log(), torch.tensor([[0, 1, -1]]))[0]
    own = np.log([0.5, 0.2])
    entropies = [-(x * np.log(x)).sum() for x in ([np.array([0.5, 0.25, 0.25]), np.array([0.1, 0.2, 0.7])])]
    expected = [own.mean(), own.std(), *np.quantile(own, (0.1, 0.5, 0.9)), np.log([1, 2]).mean(), 0.5, 1, 1]
    np.testing.assert_allclose(stats, [*expected, np.mean(entropies)], rtol=1e-5)
    assert not _of_predictions(p.log(), torch.full((1, 3), -1)).any()


def test_statistics_of_tokens_by_hand():
    assert _of_tokens([1, 2, 1, 2, 1, 2, 1]) == pytest.approx([2 / 7, 2 / 6, 1 - 2 / 4, np.log(8)])
    assert _of_tokens([]) == [1, 1, 0, 0]


@pytest.mark.parametrize(("family", "info", "rows"), [(TINY, TEXT, texts()), (T5, PAIRS, pairs())])
def test_statistics_of_texts(family, info, rows):
    model = unlike(built(family, info))
    pool = pool_of(rows, rows, info, family=family, evaluated=evaluated_by(model, 7))
    statistics = text_statistics(pool, rows)
    assert statistics.shape == (40, 14)
    nats, tokens = family.nats(model, rows)
    there = tokens.numpy() > 0
    np.testing.assert_allclose(statistics[there, 0], (-nats / tokens).numpy()[there], rtol=1e-4)


def test_repetitive_texts_are_detected():
    rows = {"tokens": texts(40)["tokens"]}
    real = {"tokens": torch.cat([rows["tokens"]] * 3)}
    repeated = {"tokens": real["tokens"].clone()}
    inner = repeated["tokens"][:, 1:]
    inner[inner > 0] = 5
    model = built(TINY, TEXT)
    pool = pool_of(repeated, real, TEXT, family=TINY, evaluated=evaluated_by(model))
    assert Detector(b=1).choose(pool, 100, curation_draws()).report["auc"] > 0.9
    same = pool_of(real, real, TEXT, family=TINY, evaluated=evaluated_by(model))
    assert Detector(b=1).choose(same, 100, curation_draws()).report["auc"] < 0.6  # equal rows are in one fold
