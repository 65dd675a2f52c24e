"""The spread of samples in the latent space of the model that was fitted to real data."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from collapse_sim.core.component import Component
from collapse_sim.data.base import Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.hooks import Encodes
from collapse_sim.metrics.base import Evaluation, Need

BATCH_ROWS = 1000


class LatentStd(Component):
    """Standard deviation of the samples' latent means under generation 0's encoder, averaged over dimensions.

    (1 / latent) sum_d std_i(mean_d(sample_i)), with n - 1. In Shumailov et al. 2024 ("The Curse of Recursion") it falls
    from .69 to .44 over five generations of VAEs on MNIST. In units of the prior's standard deviation, from 0; real
    rows have at most about 1, and generation 0's own samples are the reference. Dimensions that the encoder does not
    use contribute about 0.
    """

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...] | None] = None
    needs: ClassVar[tuple[Need, ...]] = ("samples", "origin")
    better: ClassVar[Literal["lower", "higher"] | None] = "higher"
    unit: ClassVar[str] = "the prior's standard deviations"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)

    def check(self, info: Info, family: ModelFamily, samples: int) -> None:
        if not isinstance(family, Encodes):
            raise ValueError(
                f"latent_std needs a model with an encoder, but {type(family).__name__} has none: remove it, or use vae"
            )
        if samples < 2:
            raise ValueError(f"latent_std needs at least 2 samples, found {samples}")

    @torch.no_grad()
    def score(self, evaluation: Evaluation) -> float | Tensor:
        family, origin, samples = evaluation.family, evaluation.origin(), evaluation.rows("samples")
        assert isinstance(family, Encodes)
        columns = {name: samples[name] for name in family.columns if name in samples}
        n = len(next(iter(columns.values())))
        means = []
        for first in range(0, n, BATCH_ROWS):
            batch = {
                name: rows[first : first + BATCH_ROWS].to(evaluation.machine.device) for name, rows in columns.items()
            }
            means.append(family.encode(origin, batch)[0].double().cpu())
        return float(torch.cat(means).std(0).mean())
