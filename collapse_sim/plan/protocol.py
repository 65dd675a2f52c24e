"""How long the fits of later generations are, when arms have different numbers of rows: the protocol of a comparison.

An arm that accumulates has k + 1 times the rows of one that replaces. With equal updates it sees each row ever fewer
times; with equal epochs it takes ever more updates; and both orderings of arms are published. So every arm says which:

- updates: as many optimiser updates in every generation as in generation 0;
- epochs: as many passes over its own rows (Gerstgrasser et al. 2024);
- converged: until the loss on validation rows falls no more; the weights of its least value are kept.

Generation 0 is the same fit under updates and epochs.
"""

from __future__ import annotations

from collapse_sim.families.training import Train, updates_per_epoch
from collapse_sim.plan.settings import Protocol

PATIENCE = 5  # evaluations, if a recipe does not say
LONGEST = 20  # times the length that a recipe gives: where a fit that is still getting better ends


def protocol_of(train: Train, said: Protocol | None) -> Protocol:
    """What an arm says, or else what the length of a fit is given in."""
    return said or ("updates" if train.steps is not None else "epochs")


def at_length(train: Train, protocol: Protocol, rows: int, real: int) -> Train:
    """The settings of one fit, its length in `steps`: of a generation with `rows`, where generation 0 has `real` rows.

    Fits that are equally long have equal settings, and so equal keys, under whatever protocol they came to them.
    """
    mine, first = updates_per_epoch(train, rows), updates_per_epoch(train, real)
    if train.steps is not None:
        steps = train.steps if protocol == "updates" else round(train.steps * mine / first)
    else:
        steps = round((train.epochs or 0) * (first if protocol == "updates" else mine))
    steps = max(1, steps)
    changes: dict[str, object] = {"steps": steps, "epochs": None}
    if protocol == "converged":
        warmup = train.warmup_steps or round(train.warmup_ratio * steps)  # of the length, not of what it may come to
        changes |= {"steps": steps * LONGEST, "patience": train.patience or PATIENCE, "keep": "best"}
        changes |= {"warmup_steps": warmup, "warmup_ratio": 0.0}
    return train.model_copy(update=changes)
