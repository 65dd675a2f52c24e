"""MAUVE: the similarity of the texts' distribution to the real one, over clusters of a language model's features."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.metrics.aspects import Aspect
from collapse_sim.metrics.base import Evaluation, FeatureSpace, MetricNote, Need, Which, note
from collapse_sim.metrics.language_model import ReadingMetric, reading
from collapse_sim.metrics.text_base import picked, texts

Several = Annotated[int, Field(ge=2)]
SEED = 25  # of the clustering: mauve-text's own default
ENOUGH = 1000  # texts on either side, below which its authors advise against quoting a figure


class Mauve(ReadingMetric):
    """MAUVE of the texts against real ones, from 0 to 1 for the same distribution (Pillutla et al. 2021).

    The area under the curve of both Kullback-Leibler divergences to mixtures, over k-means clusters of a language
    model's last hidden state at a text's last token, by the package mauve-text (an extra: pip install
    'collapse-sim[mauve]'). Texts without tokens are left out. Figures depend on the model, the number of texts and the
    number of clusters: compare only with equal settings.
    """

    model: str = "gpt2-large"
    """The model whose features are clustered, by name or folder."""
    against: Literal["held_out", "real"] = "held_out"
    """Real rows to compare with: held_out (nothing is fitted to them), or real (generation 0 is)."""
    rows: Several = 5000
    """Maximum number of rows of either side, drawn without replacement."""
    buckets: Literal["auto"] | Several = "auto"
    """Number of clusters; auto: a tenth of the texts of the smaller side."""

    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "area under the curve"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    least: ClassVar[int] = 2
    reads: ClassVar[str] = "model"
    measures: ClassVar[tuple[Aspect, ...]] = ("drift",)

    @property
    def needs(self) -> tuple[Need, ...]:
        """The texts, and those that they are compared with."""
        return (self.of, self.against)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        super().check(info, family, samples)
        if self.of == self.against:
            raise ValueError(f"`of` and `against` are both {self.of}: the MAUVE of a set with itself is 1")
        if importlib.util.find_spec("mauve") is None:
            raise ValueError("the package mauve-text is not installed: pip install 'collapse-sim[mauve]'")
        self.reader.check(predicts=False)

    def metric_note(self, info: Info, samples: int, space: FeatureSpace | None) -> MetricNote:
        """The numbers of rows, the model, and a warning if there are too few rows."""
        counts = self._counts(info, samples)
        few = min(self.rows, *counts.values()) < ENOUGH
        warning = f"unsure: fewer than {ENOUGH:,} texts on a side" if few else ""
        return MetricNote(f"{note(counts, space, self.rows)}; {self.reader.label}", warning)

    def score(self, evaluation: Evaluation) -> float | Tensor:
        generated, real = self._features(evaluation, self.of), self._features(evaluation, self.against)
        if len(generated) < 2 or len(real) < 2:
            return math.nan
        from mauve import compute_mauve

        with _stderr_suppressed():
            result = compute_mauve(p_features=real, q_features=generated, seed=SEED, num_buckets=self.buckets)
        return float(result.mauve)

    def _features(self, evaluation: Evaluation, which: Which) -> np.ndarray:
        chosen = list(texts(picked(evaluation, which, self.rows), evaluation.info))
        with reading(evaluation.machine) as machine:
            features: np.ndarray = self.reader.features(chosen, machine).numpy()
        return features


@contextlib.contextmanager
def _stderr_suppressed() -> Iterator[None]:
    """Suppress what libraries write to file descriptor 2: faiss warns of few texts per cluster."""
    saved = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as devnull:
            os.dup2(devnull.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
