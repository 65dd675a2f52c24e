"""Sampling from truncated latents."""

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
from collapse_sim.families.hooks import FromLatents


class Truncation(Component):
    """Latents over a limit are drawn again (Brock et al. 2019, arXiv 1809.11096, section 3.1).

    gaussian, vae, conv_vae, flow, flow_matching, edm without s_churn, and ddpm with sampler: ddim and eta: 0. Language
    models have top_k and top_p.
    """

    limit: Annotated[float, Field(ge=0.1, allow_inf_nan=False)]
    """The largest absolute value of a coordinate of the standard normal latents."""

    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"limit": 1.0},)

    @property
    def neutral(self) -> bool:
        return False

    @property
    def own(self) -> None:
        return None

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        if not isinstance(family, FromLatents) or not family.from_latents:
            raise ValueError(
                f"samples of {identity(type(family))} are not a function of normal latents; allowed: gaussian, vae, "
                "conv_vae, flow, flow_matching, edm without s_churn, and ddpm with sampler: ddim and eta: 0; language "
                "models have top_k and top_p"
            )

    def models(
        self, family: ModelFamily, model: nn.Module, auxiliary: nn.Module | None
    ) -> tuple[ModelFamily, nn.Module]:
        return family, model

    def draws(self, family: ModelFamily, draws: Draws) -> Draws:
        return ShapedDraws(draws, limit=self.limit)
