"""Logistic regression: against scikit-learn's own pipeline and the closed form of two Gaussians."""

from __future__ import annotations

import numpy as np
import pytest

from collapse_sim.remedies.logistic import fit_logistic


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_scikit_learn(classes):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, 200) + 4
    features = generator.normal(size=(200, 3)) * [1, 10, 0.1] + labels[:, None]
    model = fit_logistic(features, labels)
    reference = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features, labels)
    np.testing.assert_allclose(model.probabilities(features), reference.predict_proba(features), atol=1e-6)
    assert model.classes.tolist() == list(range(4, 4 + classes))


def test_log_odds_of_two_gaussians():
    """N(0, 1) against N(1, 1): log odds x - 1/2, plus log 3 if the second class has three times the weight."""
    generator = np.random.default_rng(0)
    x = np.concatenate([generator.normal(size=(40_000, 1)), 1 + generator.normal(size=(40_000, 1))])
    labels = np.repeat([0, 1], 40_000)
    places = np.array([[-1.0], [0.5], [2.0]])
    np.testing.assert_allclose(fit_logistic(x, labels).logits(places), places[:, 0] - 0.5, atol=0.05)
    weighted = fit_logistic(x, labels, np.where(labels == 1, 3.0, 1.0))
    np.testing.assert_allclose(weighted.logits(places), places[:, 0] - 0.5 + np.log(3), atol=0.05)


def test_a_constant_feature_does_no_harm():
    features = np.stack([np.arange(20.0), np.full(20, 3.0)], 1)
    assert np.isfinite(fit_logistic(features, np.arange(20) // 10).logits(features)).all()
