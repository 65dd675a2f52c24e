"""What a detector of generated rows looks at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily, Rows
from collapse_sim.families.hooks import PredictsTokens
from collapse_sim.remedies.base import Pool
from collapse_sim.remedies.row_vectors import TEXTS, check_vectors, require_finite, text_column, vectors

COMPONENTS = 20  # dimensions above which rows are reduced to principal components
LANDMARKS = 100  # of the RBF features
RANKS = (1, 10, 100)
QUANTILES = (0.1, 0.5, 0.9)
REPEATED = 4  # tokens of the n-grams whose repetition is counted
Expansion = Literal["quadratic", "rbf"]


def check_tells_apart(info: Info, family: ModelFamily) -> None:
    """Raise ValueError for texts of a family that predicts no tokens, and for other rows that are no vectors."""
    if info.kind not in TEXTS:
        check_vectors(info)
    elif not isinstance(family, PredictsTokens):
        raise ValueError(
            f"texts are told apart by the probabilities of their tokens, which {type(family).__name__} models do not "
            "offer: use causal_lm or seq2seq"
        )


def detector_features(pool: Pool, expansion: Expansion, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """(N, F) of the candidates and (n, F) of the real rows that generation 0 was fitted to, float64.

    Points and images: coordinates or intensities (their first principal components, if they are many) with all products
    of two, or radial basis functions around randomly drawn rows. Texts: statistics of their tokens (text_statistics).
    """
    from sklearn.decomposition import PCA
    from sklearn.kernel_approximation import Nystroem
    from sklearn.preprocessing import PolynomialFeatures
    from threadpoolctl import threadpool_limits

    real = pool.real()
    if pool.info.kind in TEXTS:
        return text_statistics(pool, pool.columns), text_statistics(pool, real)
    candidates = require_finite(vectors(pool.columns, pool.info), "candidates")
    joint = np.concatenate([candidates, vectors(real, pool.info)])
    start = int(draws.integers(2**31 - 1, 1))
    with threadpool_limits(limits=1):
        if joint.shape[1] > COMPONENTS:
            joint = PCA(min(COMPONENTS, len(joint)), random_state=start).fit_transform(joint)
        joint = (joint - joint.mean(0)) / np.where(joint.std(0) > 0, joint.std(0), 1.0)
        if expansion == "quadratic":
            joint = PolynomialFeatures(2, include_bias=False).fit_transform(joint)
        else:
            kernel = Nystroem(n_components=min(LANDMARKS, len(joint)), gamma=1.0, random_state=start)
            joint = kernel.fit_transform(joint)
    return joint[: len(candidates)], joint[len(candidates) :]


def text_statistics(pool: Pool, rows: Mapping[str, Tensor]) -> np.ndarray:
    """(n, 15): of each text's tokens under generation 0 the mean, standard deviation and quantiles of log p, the mean
    log rank, the shares among the 1, 10 and 100 most likely ones and the mean entropy; then distinct-1, distinct-2, the
    repetition of 4-grams, and the log of the length.

    Statistics of tokens are 0 for a text without any.
    """
    family = pool.family
    assert isinstance(family, PredictsTokens)
    assert pool.evaluated is not None

    def read(model: nn.Module, piece: Rows, draws: Draws) -> Tensor:
        predicted = family.token_predictions(model, piece)
        return _of_predictions(predicted.log_p, predicted.targets)

    columns = {name: rows[name] for name in family.columns}
    predicted = pool.evaluated("origin", columns, read).double().numpy()
    tokenizer = pool.info.text()
    counts = [_of_tokens(row[(row >= 0) & (row != tokenizer.begin) & (row != tokenizer.end)].tolist())
              for row in rows[text_column(pool.info)].numpy()]  # fmt: skip
    return np.concatenate([predicted, np.array(counts)], 1)


def _of_predictions(log_p: Tensor, targets: Tensor) -> Tensor:
    """(n, L, V) and (n, L) -> (n, 10) float32."""
    out = torch.zeros(len(targets), 3 + len(QUANTILES) + len(RANKS) + 1, device=log_p.device)
    for slot, row, row_targets in zip(out, log_p, targets, strict=True):
        there = row_targets >= 0
        if not bool(there.any()):
            continue
        row = row[there]
        own = row.gather(1, row_targets[there].unsqueeze(1))
        rank = (row > own).sum(1) + 1
        own = own.squeeze(1)
        entropy = -(row.exp() * row.nan_to_num(neginf=0.0)).sum(1).mean()
        parts = [own.mean(), own.std(correction=0), *own.quantile(own.new_tensor(QUANTILES)), rank.float().log().mean()]
        parts += [(rank <= most).float().mean() for most in RANKS]
        slot.copy_(torch.stack([*parts, entropy]))
    return out


def _of_tokens(tokens: list[int]) -> list[float]:
    """Shares of different tokens and pairs, the share of repeated 4-grams, and log(1 + length)."""

    def different(n: int) -> float:
        grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        return len(set(grams)) / len(grams) if grams else 1.0

    return [different(1), different(2), 1 - different(REPEATED), float(np.log1p(len(tokens)))]
