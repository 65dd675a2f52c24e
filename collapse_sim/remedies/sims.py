"""SIMS: samples are guided away from a model that was trained on samples of the first one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import nn

from collapse_sim.core.randomness import Draws
from collapse_sim.core.registry import identity
from collapse_sim.data.base import Data, Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.families.hooks import Guided
from collapse_sim.remedies.own_fit import OwnFit


class SIMS(OwnFit):
    """Guidance away from a model that was trained on own samples (Alemohammad et al., arXiv 2408.16333).

    s = (1 + w) s_r - w s_s at every call of the sampler, before any clipping, with s_r the generation's score and s_s
    that of the same model trained further on own samples, which are drawn without guidance.

    ddpm: the predicted noise or v; flow_matching: the velocity, with every solver; edm: the denoised row; causal_lm:
    the logits, before temperature, top_k and top_p (log p = (1 + w) log p_r - w log p_s, renormalised). Twice the
    network calls.
    """

    w: Annotated[float, Field(allow_inf_nan=False)]
    """Strength of the guidance; 0: none."""

    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"w": 1.0},)

    @property
    def neutral(self) -> bool:
        return self.w == 0

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        self.check_train(family)
        if not isinstance(family, Guided):
            raise ValueError(
                f"{identity(type(family))} cannot sample with a second model; allowed: ddpm, flow_matching, edm, "
                "causal_lm"
            )
        if not family.guides:
            raise ValueError("beam search uses one network only; set model.decoding to sample or greedy")

    def models(
        self, family: ModelFamily, model: nn.Module, auxiliary: nn.Module | None
    ) -> tuple[ModelFamily, nn.Module]:
        assert isinstance(family, Guided)
        assert auxiliary is not None
        return family, family.guided(model, auxiliary, self.w)

    def draws(self, family: ModelFamily, draws: Draws) -> Draws:
        return draws
