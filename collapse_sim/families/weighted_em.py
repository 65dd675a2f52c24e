"""scikit-learn's EM for a mixture of Gaussians, where rows have weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture


class WeightedMixture(GaussianMixture):  # type: ignore[misc]
    """Every row's responsibilities, log-likelihood and part in the k-means start are multiplied by its weight.

    With whole weights that is the fit to rows that are repeated as often.
    """

    row_weights: np.ndarray  # (n,) of mean 1, at least 0; to be set before `fit`

    def _initialize_parameters(self, X: np.ndarray, random_state: Any, **options: Any) -> None:
        start = KMeans(self.n_components, n_init=1, random_state=random_state)
        labels = start.fit(X, sample_weight=self.row_weights).labels_
        self._initialize(X, np.eye(self.n_components)[labels] * self.row_weights[:, None], **options)

    def _e_step(self, X: np.ndarray, **options: Any) -> tuple[float, np.ndarray]:
        log_density, log_responsibilities = self._estimate_log_prob_resp(X, **options)
        return float(np.average(log_density, weights=self.row_weights)), log_responsibilities

    def _m_step(self, X: np.ndarray, log_resp: np.ndarray, **options: Any) -> None:
        with np.errstate(divide="ignore"):
            weighted = log_resp + np.log(self.row_weights)[:, None]
        super()._m_step(X, weighted, **options)
