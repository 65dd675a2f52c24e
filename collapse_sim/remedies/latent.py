"""Keeping the candidates that a probe of generation 0's encoder recognises as their class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info, conditions_of
from collapse_sim.families.base import ModelFamily, Rows
from collapse_sim.families.hooks import Encodes, EncodesNoised
from collapse_sim.remedies.base import Choice, Pool
from collapse_sim.remedies.logistic import fit_logistic
from collapse_sim.remedies.row_vectors import vectors
from collapse_sim.remedies.selection import Selection, best, tied


class Latent(Selection):
    """Candidates whose class generation 0's encoder features show best (LSF, Cai et al. 2025, arXiv 2511.12742).

    A softmax regression on the encoder's output for real rows with noise of `time` predicts their labels. A candidate's
    score is the probability that it gives to the candidate's own label, and the highest scores are kept. Families that
    encode without noise (`vae`) are read by the means of their latents. The paper filters all past rows (`pool: past`).

    A family that generates no labels gets them from a softmax regression on the intensities of real rows, not on
    features. The report has the accuracies of both regressions on the rows that they are fitted to, and the mean score
    of candidates and of kept ones.
    """

    time: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """How much noise rows get: 0 none, 1 nothing but noise. In the paper the middle is best."""

    @property
    def keeps_all(self) -> bool:
        return self.keep == 1.0

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        """Raises ValueError without labels, and for families without an encoder."""
        if info.kind != "images" or info.classes < 2:
            what = f"of the kind {info.kind}" if info.kind != "images" else "without labels of two classes"
            raise ValueError(f"it scores images by the class that they are of; this data is {what}. Use `detector`")
        if not isinstance(family, EncodesNoised | Encodes):
            raise ValueError(
                f"it reads the encoder of a model, which {type(family).__name__} models do not have: use ddpm, "
                "flow_matching, edm or vae"
            )
        if "label" in conditions_of(data, family) and not isinstance(family, EncodesNoised):
            raise ValueError(
                "it recognises classes in what the encoder makes of an image alone, and this model's encoder is given "
                "the label: set `conditional: false`, or use ddpm or flow_matching, which can leave the label out"
            )

    def choose(self, pool: Pool, rows: int, draws: Draws) -> Choice:
        real = pool.real()
        labels = real["label"].numpy()
        if len(np.unique(labels)) < 2:
            raise ValueError("all real rows that generation 0 is fitted to have the same label: raise `data.rows`")
        features, of_real = self._features(pool, pool.columns), self._features(pool, real)
        probe = fit_logistic(of_real, labels)
        figures = {"probe_accuracy": _accuracy(probe.probabilities(of_real), probe.classes, labels)}
        if "label" in pool.columns:
            own = pool.columns["label"].numpy()
        else:
            pixels = fit_logistic(vectors(real, pool.info), labels)
            guessed = pixels.probabilities(vectors(pool.columns, pool.info))
            own = pixels.classes[guessed.argmax(1)]
            figures["label_accuracy"] = _accuracy(
                pixels.probabilities(vectors(real, pool.info)), pixels.classes, labels
            )
        unknown = sorted({*own.tolist()} - {*probe.classes.tolist()})
        if unknown:
            raise ValueError(f"candidates have the label {unknown[0]}, which no real row has")
        places = np.searchsorted(probe.classes, own)
        scores = torch.from_numpy(probe.probabilities(features)[np.arange(len(own)), places])
        figures |= tied(scores, "the probability of the own class", pool)
        index = best(scores, rows, draws)
        figures |= {"score_of_all": float(scores.mean()), "score_of_kept": float(scores[index].mean())}
        return Choice(index, report=figures)

    def _features(self, pool: Pool, rows: Mapping[str, Tensor]) -> np.ndarray:
        """(n, F) float64 of generation 0's model."""
        family, time = pool.family, self.time
        assert pool.evaluated is not None

        def read(model: nn.Module, piece: Rows, draws: Draws) -> Tensor:
            if isinstance(family, EncodesNoised):
                return family.encode_noised(model, piece, time, draws)
            assert isinstance(family, Encodes)
            return family.encode(model, piece)[0]

        needed = {name: rows[name] for name in family.columns if name in rows}
        features: np.ndarray = pool.evaluated("origin", needed, read).double().numpy()
        return features


def _accuracy(probabilities: np.ndarray, classes: np.ndarray, labels: np.ndarray) -> float:
    return float((classes[probabilities.argmax(1)] == labels).mean())
