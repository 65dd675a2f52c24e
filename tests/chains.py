"""What an arm's models are made from, for closed forms."""

from __future__ import annotations

from collapse_sim.data.sources import Chain, RowCounts
from collapse_sim.plan.experiment import plans_of
from collapse_sim.plan.settings import Arm
from collapse_sim.plan.theory import taught


def chain_of(arm: Arm, counts: RowCounts, generations: int) -> Chain:
    """Of generations 0 to `generations`."""
    return Chain(plans_of(arm, generations, counts), taught(arm, generations + 1))
