"""Sampling at another temperature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import nn

from collapse_sim.core.component import Component
from collapse_sim.core.randomness import Draws, ShapedDraws
from collapse_sim.core.registry import identity
from collapse_sim.data.base import Data, Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.hooks import FromLatents, Tempered


class Temperature(Component):
    """Samples less (b < 1) or more (b > 1) spread than the model (sampling bias, Alemohammad et al., arXiv 2307.01850).

    gaussian: x = mu + b (x - mu); vae, conv_vae: z = b z; flow, flow_matching: initial noise times b; ddpm: the score
    times 1 / b^2 at every step; edm: as flow_matching, with s_churn as ddpm; language models: logits
    divided by b, beside the model's own `temperature`.
    """

    b: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    """Temperature; 1: the model's own distribution."""

    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"b": 0.9},)

    @property
    def neutral(self) -> bool:
        return self.b == 1

    @property
    def own(self) -> None:
        return None

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        if not _tempers(family) and not _from_latents(family):
            setting = "; without decoding: sample, or with zero_terminal_snr" if isinstance(family, Tempered) else ""
            raise ValueError(f"{identity(type(family))} has no temperature{setting}; allowed: {ALLOWED}")

    def models(
        self, family: ModelFamily, model: nn.Module, auxiliary: nn.Module | None
    ) -> tuple[ModelFamily, nn.Module]:
        if isinstance(family, Tempered) and family.tempers:
            return family.tempered(model, self.b)
        return family, model

    def draws(self, family: ModelFamily, draws: Draws) -> Draws:
        return draws if _tempers(family) else ShapedDraws(draws, scale=self.b)


ALLOWED = "gaussian, vae, conv_vae, flow, flow_matching, ddpm, edm, and language models with decoding: sample"


def _tempers(family: ModelFamily) -> bool:
    return isinstance(family, Tempered) and family.tempers


def _from_latents(family: ModelFamily) -> bool:
    return isinstance(family, FromLatents) and family.from_latents
