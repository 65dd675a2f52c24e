"""Logistic regression of rows' features, in one thread and with standardised features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

ITERATIONS = 500


@dataclass(frozen=True)
class Logistic:
    """A fitted model. Features are standardised by `mean` and `scale` (F,)."""

    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray  # (C, F), for two classes (1, F)
    intercept: np.ndarray  # (C,) or (1,)
    classes: np.ndarray  # the classes' labels, ascending

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(n, F) -> (n,) log odds of the second of two classes, or (n, C)."""
        values: np.ndarray = (features - self.mean) / self.scale @ self.coefficients.T + self.intercept
        return values[:, 0] if values.shape[1] == 1 else values

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """(n, F) -> (n, C), C at least 2."""
        from scipy.special import softmax

        logits = self.logits(features)
        both = np.stack([np.zeros_like(logits), logits], 1) if logits.ndim == 1 else logits
        probabilities: np.ndarray = softmax(both, axis=1)
        return probabilities


def fit_logistic(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, inverse_strength: float = 1.0
) -> Logistic:
    """scikit-learn's L2-regularised fit to features (n, F) with labels (n,) of at least two classes."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    mean, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    model = LogisticRegression(C=inverse_strength, max_iter=ITERATIONS)
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # regularised: what is left to gain is small
        model.fit((features - mean) / scale, labels, weights)
    return Logistic(mean, scale, model.coef_, model.intercept_, model.classes_)
