"""Selection by the model's own likelihood, which needs no knowledge of the origin of rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Data, Info
from collapse_sim.families.base import ModelFamily
from collapse_sim.remedies.base import Choice, Pool
from collapse_sim.remedies.scores import check_losses
from collapse_sim.remedies.selection import Selection, best, checked, tied


class Likelihood(Selection):
    """Candidates ranked by their loss under the model that generated them.

    Of texts the loss is in nats per token, so that `bottom` keeps those of the highest perplexity: surplexity (Gambetta
    et al. 2024, arXiv 2410.12341). For other families the loss is a bound or a stand-in for the likelihood, such as the
    denoising error of diffusion, where few `loss_draws` make the rank noisy.
    """

    rank: Literal["top", "bottom"] = "bottom"
    """bottom: the least likely rows are kept, those of the highest loss; top: the most likely ones."""
    loss_draws: Annotated[int, Field(ge=1)] = 1
    """Draws of the family's noise that a loss is the mean of."""

    @property
    def keeps_all(self) -> bool:
        return self.keep == 1.0

    def check(self, data: Data, info: Info, family: ModelFamily) -> None:
        check_losses(family, self.loss_draws)

    def choose(self, pool: Pool, rows: int, draws: Draws) -> Choice:
        losses = checked(pool.losses("model"), len(pool), "the loss")
        report = tied(losses, "the loss", pool) if rows < len(pool) else {}
        return Choice(best(losses if self.rank == "bottom" else -losses, rows, draws), report=report)
