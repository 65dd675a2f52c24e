"""Rows as vectors, and their distances: what curations compare candidates and real rows by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from collapse_sim.data.base import Info
from collapse_sim.data.text.tokens import PAD_TOKEN_ID

BUCKETS = 1024  # of token counts: a larger vocabulary is counted modulo this number
TEXTS = ("text", "pairs")


def text_column(info: Info) -> str:
    """The column of a text: of pairs the target, which is generated."""
    return "target" if info.kind == "pairs" else "tokens"


def vectors(columns: Mapping[str, Tensor], info: Info) -> np.ndarray:
    """(n, F) float64. Points: their coordinates; regression: x and y; images: intensities from 0 to 1; texts: the share
    of each token, begin, end and padding not counted (in BUCKETS numbers if the vocabulary is larger)."""
    if info.kind in TEXTS:
        return _token_shares(columns[text_column(info)].numpy(), info)
    if info.kind == "images":
        return columns["image"].flatten(1).double().numpy() / 255
    parts = [columns[name].double().reshape(len(columns[name]), -1).numpy() for name in ("x", "y") if name in columns]
    return np.concatenate(parts, 1)


def _token_shares(tokens: np.ndarray, info: Info) -> np.ndarray:
    tokenizer = info.text()
    width = min(tokenizer.size, BUCKETS)
    left_out = (PAD_TOKEN_ID, tokenizer.begin, tokenizer.end)
    counts = np.zeros((len(tokens), width))
    rows, places = np.nonzero(~np.isin(tokens, left_out))
    np.add.at(counts, (rows, tokens[rows, places].astype(np.int64) % width), 1.0)
    shares: np.ndarray = counts / np.maximum(1.0, counts.sum(1, keepdims=True))
    return shares


def check_vectors(info: Info) -> None:
    """Raise ValueError for rows that are not vectors, such as conformations, which may be turned."""
    if info.kind not in TEXTS and not {"image", "x", "y"} & set(info.columns):
        raise ValueError(
            f"it compares rows by their distances, which rows of the kind {info.kind} do not have: use random, verify, "
            "luce or likelihood"
        )


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, F), (m, F) -> (n, m): squared Euclidean distances; exactly 0 between equal vectors."""
    from scipy.spatial.distance import cdist

    distances: np.ndarray = cdist(a, b, "sqeuclidean")
    return distances


def require_finite(features: np.ndarray, what: str) -> np.ndarray:
    """The same array. Raises ValueError if a value is not finite."""
    bad = int((~np.isfinite(features).all(1)).sum())
    if bad:
        raise ValueError(f"{bad} of {len(features)} {what} are not finite")
    return features
