"""A classifier of real against generated rows, which is fitted once and then judges all generations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.remedies.base import FittedVerifier, Pool
from collapse_sim.remedies.detector_features import (
    COMPONENTS,
    LANDMARKS,
    Expansion,
    check_tells_apart,
    text_statistics,
)
from collapse_sim.remedies.logistic import Logistic, fit_logistic
from collapse_sim.remedies.row_vectors import TEXTS, require_finite, vectors

Arrays = dict[str, np.ndarray]


class RowClassifier(Component):
    """Logistic regression of the real rows of generation 0 (1) against its samples (0), of equal weight together.

    Points and images are standardised (images reduced to their first principal components) and expanded; texts are
    described by statistics of their tokens under generation 0 (detector_features.text_statistics). The transformation
    is fitted to both kinds of rows, without their labels, and kept with the coefficients.

    The report has the area under the ROC curve, of rows out of fold (`auc`).
    """

    features: Expansion = "quadratic"
    """Points and images: all products of two coordinates (quadratic), or radial basis functions (rbf)."""

    folds: ClassVar[int] = 5

    def check(self, info: Info, family: ModelFamily) -> None:
        """Raises ValueError for texts of a family that predicts no tokens."""
        check_tells_apart(info, family)

    def fit(self, pool: Pool, draws: Draws) -> FittedVerifier:
        """Raises ValueError when there are too few rows of either kind."""
        from sklearn.metrics import roc_auc_score

        generated, real = _described(pool, pool.columns), _described(pool, pool.real())
        if min(len(generated), len(real)) < 2 * self.folds:
            raise ValueError(
                f"{len(generated)} samples and {len(real)} real rows are too few for a classifier with {self.folds} "
                "folds of two: raise `samples` or `data.rows`"
            )
        both = np.concatenate([generated, real])
        start = int(draws.integers(2**31 - 1, 1))
        transformation = {} if pool.info.kind in TEXTS else _transformation(both, self.features, start)
        both = _transformed(both, transformation)
        labels = np.concatenate([np.zeros(len(generated), dtype=np.int64), np.ones(len(real), dtype=np.int64)])
        weights = np.where(labels == 0, 0.5 / len(generated), 0.5 / len(real)) * len(both)
        folds = np.concatenate([(draws.permutation(n) % self.folds).numpy() for n in (len(generated), len(real))])
        logits = np.empty(len(both))
        for fold in range(self.folds):
            kept = folds != fold
            logits[~kept] = fit_logistic(both[kept], labels[kept], weights[kept]).logits(both[~kept])
        fitted = fit_logistic(both, labels, weights)
        coefficients = {
            "mean": fitted.mean,
            "scale": fitted.scale,
            "coefficients": fitted.coefficients,
            "intercept": fitted.intercept,
        }
        arrays = {f"rows/{name}": array for name, array in transformation.items()}
        arrays |= {f"classifier/{name}": array for name, array in coefficients.items()}
        tensors = {name: torch.from_numpy(np.array(array, dtype=np.float64)) for name, array in arrays.items()}
        return FittedVerifier(tensors, {"auc": float(roc_auc_score(labels, logits))})

    def log_odds(self, pool: Pool, fitted: FittedVerifier) -> Tensor:
        """(N,) float64: log of the odds that a candidate is real."""
        arrays = {name: tensor.numpy() for name, tensor in fitted.tensors.items()}
        coefficients = _below(arrays, "classifier")
        model = Logistic(**coefficients, classes=np.array([0, 1]))
        rows = _transformed(_described(pool, pool.columns), _below(arrays, "rows"))
        return torch.from_numpy(model.logits(rows))


def _below(arrays: Mapping[str, np.ndarray], group: str) -> Arrays:
    return {name.partition("/")[2]: array for name, array in arrays.items() if name.partition("/")[0] == group}


def _described(pool: Pool, rows: Mapping[str, Tensor]) -> np.ndarray:
    """(n, F) float64 before they are transformed."""
    if pool.info.kind in TEXTS:
        return text_statistics(pool, rows)
    return require_finite(vectors(rows, pool.info), "rows")


def _transformation(rows: np.ndarray, expansion: Expansion, start: int) -> Arrays:
    """What `_transformed` does with rows, fitted to these (n, F). Its shapes depend on n and F alone."""
    from sklearn.decomposition import PCA
    from sklearn.kernel_approximation import Nystroem
    from threadpoolctl import threadpool_limits

    arrays: Arrays = {}
    with threadpool_limits(limits=1):
        if rows.shape[1] > COMPONENTS:
            pca = PCA(min(COMPONENTS, len(rows)), random_state=start).fit(rows)
            arrays |= {"origin": pca.mean_, "components": pca.components_}
            rows = (rows - pca.mean_) @ pca.components_.T
        spread = rows.std(0)
        arrays |= {"centre": rows.mean(0), "spread": np.where(spread > 0, spread, 1.0)}
        if expansion == "rbf":
            standard = (rows - arrays["centre"]) / arrays["spread"]
            kernel = Nystroem(n_components=min(LANDMARKS, len(rows)), gamma=1.0, random_state=start).fit(standard)
            arrays |= {"landmarks": kernel.components_, "normalisation": kernel.normalization_}
    return arrays


def _transformed(rows: np.ndarray, arrays: Arrays) -> np.ndarray:
    """(n, F) -> (n, G): radial basis functions if there are landmarks, otherwise values and their products; without a
    transformation the rows themselves."""
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.preprocessing import PolynomialFeatures
    from threadpoolctl import threadpool_limits

    if not arrays:
        return rows
    with threadpool_limits(limits=1):
        if "components" in arrays:
            rows = (rows - arrays["origin"]) @ arrays["components"].T
        rows = (rows - arrays["centre"]) / arrays["spread"]
        expanded: np.ndarray
        if "landmarks" in arrays:
            expanded = rbf_kernel(rows, arrays["landmarks"], gamma=1.0) @ arrays["normalisation"].T
        else:
            expanded = PolynomialFeatures(2, include_bias=False).fit_transform(rows)
        return expanded
