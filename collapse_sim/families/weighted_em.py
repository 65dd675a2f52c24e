"""scikit-learn's EM for a mixture of Gaussians, where rows have weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture


class WeightedMixture(GaussianMixture):  # type: ignore[misc]
    """Every row's responsibilities, log-likelihood and part in the k-means start are multiplied by its weight.

    With whole weights that is the fit to rows that are repeated as often. `weights` (n,) have the mean 1 and are at
    least 0; the other arguments are GaussianMixture's.
    """

    def __init__(self, weights: np.ndarray, n_components: int, **settings: Any) -> None:
        super().__init__(n_components, **settings)
        self._row_weights = weights
        with np.errstate(divide="ignore"):
            self._log_row_weights = np.log(weights)

    def _initialize_parameters(self, X: np.ndarray, random_state: Any, **options: Any) -> None:
        start = KMeans(self.n_components, n_init=1, random_state=random_state)
        labels = start.fit(X, sample_weight=self._row_weights).labels_
        self._initialize(X, np.eye(self.n_components)[labels] * self._row_weights[:, None], **options)

    def _e_step(self, X: np.ndarray, **options: Any) -> tuple[float, np.ndarray]:
        log_density, log_responsibilities = self._estimate_log_prob_resp(X, **options)
        return float(np.average(log_density, weights=self._row_weights)), log_responsibilities

    def _m_step(self, X: np.ndarray, log_resp: np.ndarray, **options: Any) -> None:
        super()._m_step(X, log_resp + self._log_row_weights[:, None], **options)
