"""Importance resampling by a detector of generated rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.hooks import HasLossUnit, check_row_weights
from collapse_sim.remedies.base import Choice, Pool
from collapse_sim.remedies.detector_features import Expansion, check_tells_apart, detector_features
from collapse_sim.remedies.logistic import fit_logistic

BINS = 15  # of the expected calibration error
UNREGULARISED = 1e6  # inverse strength in calibration, which has two parameters


class Detector(Component):
    """Candidates resampled with weights (1 - p)^b, p the probability of being generated (Drayson et al. 2025).

    As in section 4 of arXiv 2502.15654, each candidate is listed `repeats` times, `oversample` x candidates of the list
    are drawn without replacement with these weights, and of those as many as a fit takes are kept, at random (the paper
    fits to all of them). The published detector is pretrained; here (`fitted`) it is a logistic regression of real rows
    against candidates, of equal weight together, whose probabilities are out of fold and calibrated (Platt). With
    `pool: past` candidates contain real rows themselves; if q is the regression's probability, then
    p = 1 - w (1 - q) / q is that of being generated, where w = `real_share`. Held-out rows take no part.

    `exact` computes p from the true density r of simulated points and the density s of the model:
    p = (1 - w) s / ((1 - w) s + w r). If a share w of the pool is real, b = 1 then gives exactly r, and b > 1 more
    weight than that to what the model rarely generates: with b = 10, as published, the variance overshoots.

    The report has the area under the ROC curve (`auc`) and the expected calibration error (`ece`) of fitted detectors,
    and the effective sample size of the weights as a share of the candidates (`effective_share`).
    """

    p: Literal["fitted", "exact"] = "fitted"
    """Where the probability comes from."""
    b: Annotated[float, Field(ge=0.0)] = 10.0
    """Exponent of the weights; 0: all are equal."""
    repeats: Annotated[int, Field(gt=0)] = 3
    """How often a candidate may be kept, m."""
    oversample: Annotated[float, Field(gt=0.0)] = 1.5
    """Rows that are drawn by weight, relative to the candidates; at most `repeats`."""
    real_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """The share w of real rows that p refers to: with `pool: past` that of the pool."""
    features: Expansion = "quadratic"
    """fitted, points and images: all products of two coordinates (quadratic), or radial basis functions (rbf)."""
    folds: Annotated[int, Field(ge=2)] = 5
    """fitted: parts of the rows; each has its p from a fit to the others."""
    by: Literal["resampling", "weights"] = "resampling"
    """What (1 - p)^b decides. weights: every candidate is kept once, with this weight in the loss, scaled to mean 1."""
    pool: Literal["generation", "past"] = "generation"
    """The candidates. generation: each generation's samples. past: all rows that the strategy offers to a fit, real
    ones included, of which as many are kept as there are real rows (or as its `budget`)."""

    @model_validator(mode="after")
    def _settings_change_something(self) -> Self:
        unused = {"p: exact": ("features", "folds")} if self.p == "exact" else {}
        unused |= {"by: weights": ("repeats", "oversample")} if self.by == "weights" else {}
        for setting, names in unused.items():
            for name in names:
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"`{name}` has no meaning with `{setting}`: leave it out")
        return self

    @property
    def keeps_all(self) -> bool:
        return self.by == "resampling" and self.repeats == 1 and self.oversample >= 1

    def candidates(self, rows: int) -> int:
        """rows / oversample if that is more."""
        return rows if self.by == "weights" else max(rows, math.ceil(rows / min(self.oversample, self.repeats)))

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        """Raises ValueError for `exact` without densities, for texts of a family that predicts no tokens, and for
        weights of rows that have no losses of their own."""
        if self.by == "weights":
            check_row_weights(family)
        if self.p == "exact":
            if not data.seeded or "log_density" not in info.known_truths:
                raise ValueError("p: exact needs the true density of simulated data; this data has none: use p: fitted")
            if not isinstance(family, HasLossUnit) or family.loss_unit != "nats per row":
                raise ValueError(
                    f"p: exact needs a model's density, and the loss of {type(family).__name__} is not -log p of a "
                    "row: use gaussian, gmm, kde or flow, or p: fitted"
                )
        else:
            check_tells_apart(info, family)

    def choose(self, pool: Pool, rows: int, draws: Draws) -> Choice:
        report: dict[str, float] = {}
        if self.p == "exact":
            log_real = self._exact(pool)
        else:
            log_real, report = self._fitted(pool, draws)
        if bool(log_real.isnan().any()):
            raise ValueError(f"the detector is undecided (nan) about {int(log_real.isnan().sum())} candidates")
        log_weights = self.b * log_real if self.b else torch.zeros_like(log_real)
        best = float(log_weights.max())
        if best == -math.inf:
            raise ValueError("the detector gives no candidate a chance of being real: lower `b`, or use `random`")
        weights = (log_weights - best).exp()
        share = float(weights.sum() ** 2 / weights.square().sum() / len(weights))
        report["effective_share"] = share
        if self.by == "weights":
            index = draws.permutation(len(weights))[:rows].sort().values
            chosen = weights[index]
            if not float(chosen.sum()) > 0:
                raise ValueError("all kept candidates have the weight 0: lower `b`")
            return Choice(index, (chosen / chosen.mean()).float(), report=report)
        return Choice(self._resampled(log_weights, rows, draws), report=report)

    def _resampled(self, log_weights: Tensor, rows: int, draws: Draws) -> Tensor:
        """(rows,) candidates, ascending: weighted draws without replacement are the largest log weight + Gumbel."""
        copies = log_weights.repeat(self.repeats)
        possible = int(copies.isfinite().sum())
        drawn = min(round(self.oversample * len(log_weights)), possible)
        if drawn < rows:
            raise ValueError(
                f"{rows} rows are needed, and resampling gives {drawn}: {len(log_weights)} candidates, of which "
                f"{possible // self.repeats} may be real, with {self.repeats} repeats; raise `repeats` or "
                "`oversample`, or lower `b`"
            )
        uniform = draws.uniform(len(copies)).double().clamp(min=1e-12)
        first = (copies - (-uniform.log()).log()).topk(drawn).indices
        return (first[draws.permutation(drawn)[:rows]] % len(log_weights)).sort().values

    def _folds(self, pool: Pool, draws: Draws) -> np.ndarray:
        """(N + n,): the folds of candidates and real rows. A real row among the candidates is in one fold with itself:
        otherwise a fit to one copy would decide about the other."""
        real = pool.real()
        count = len(next(iter(real.values())))
        own, of_real = ((draws.permutation(rows) % self.folds).numpy() for rows in (len(pool), count))
        equal = _equals(pool.columns, real)
        shared = np.where(equal >= 0, of_real[equal], own)
        return np.concatenate([shared if len(np.unique(shared)) == self.folds else own, of_real])

    def _exact(self, pool: Pool) -> Tensor:
        """(N,) log(1 - p)."""
        real = pool.data.log_density(pool.columns["x"])  # type: ignore[attr-defined]
        odds = -pool.losses("model") - torch.as_tensor(real) + math.log((1 - self.real_share) / self.real_share)
        return -torch.nn.functional.softplus(odds)

    def _fitted(self, pool: Pool, draws: Draws) -> tuple[Tensor, dict[str, float]]:
        """(N,) log(1 - p), and the detector's quality out of fold."""
        from sklearn.metrics import roc_auc_score

        candidates, real = detector_features(pool, self.features, draws)
        both = np.concatenate([candidates, real])
        labels = np.concatenate([np.ones(len(candidates), dtype=np.int64), np.zeros(len(real), dtype=np.int64)])
        weights = np.where(labels == 1, 0.5 / len(candidates), 0.5 / len(real)) * len(both)
        folds = self._folds(pool, draws)
        if min(len(candidates), len(real)) < 2 * self.folds:
            raise ValueError(
                f"{len(candidates)} candidates and {len(real)} real rows are too few for {self.folds} folds of two: "
                "lower `folds`"
            )
        logits = np.empty(len(both))
        for fold in range(self.folds):
            kept = folds != fold
            logits[~kept] = fit_logistic(both[kept], labels[kept], weights[kept]).logits(both[~kept])
        platt = fit_logistic(logits[:, None], labels, weights, UNREGULARISED)
        calibrated = platt.logits(logits[:, None]) if platt.coefficients[0, 0] > 0 else np.zeros(len(both))
        auc = float(roc_auc_score(labels, logits))
        report = {"auc": auc, "ece": calibration_error(calibrated, labels, weights)}
        odds = torch.from_numpy(calibrated[: len(candidates)])  # of candidates against real rows
        w = self.real_share
        if self.pool == "past":
            return (math.log(w) - odds).clamp(max=0.0), report
        return -torch.nn.functional.softplus(odds + math.log((1 - w) / w)), report


def _equals(columns: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> np.ndarray:
    """(N,) int64: for every candidate a real row with the same content, or -1."""
    names = sorted(columns.keys() & real.keys())
    places = {key: place for place, key in enumerate(_contents(real, names))}
    return np.array([places.get(key, -1) for key in _contents(columns, names)], dtype=np.int64)


def _contents(columns: Mapping[str, Tensor], names: list[str]) -> list[bytes]:
    rows = len(columns[names[0]])
    arrays = [columns[name].numpy().reshape(rows, -1) for name in names]
    return [b"".join(array[i].tobytes() for array in arrays) for i in range(rows)]


def calibration_error(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """The expected calibration error in BINS bins of equal width, of rows with weights (Naeini et al. 2015)."""
    from scipy.special import expit

    p = expit(logits)
    bins = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, weights * (labels - p), BINS)
    return float(np.abs(gaps).sum() / weights.sum())
