"""Published figures belong to the experiment that a recipe was written for: another size of it does not have them."""

from __future__ import annotations

import logging

from collapse_sim.recipe.located import Block, plain

SIZE = ("data", "model", "train", "retrain", "protocol", "samples")  # what figures depend on, beside arms and metrics
logger = logging.getLogger(__name__)


def without_figures(below: Block, over: Block, merged: Block) -> Block:
    """`merged`, which is `over` laid over `below`, without a `reference` that `over` has changed the size under.

    `over` keeps it by writing the `reference` (or a part of it) itself. Fewer generations take figures of the last one
    away, and leave those of a generation that has a number.
    """
    reference = below.get("reference")
    if not isinstance(reference, Block) or any(key.partition(".")[0] == "reference" for key in over):
        return merged
    last = reference.get("generation", "last") == "last"
    changed = [key for key in (*SIZE, *(["generations"] if last else [])) if _other(below, merged, key)]
    if not changed or "reference" not in merged:
        return merged
    result = merged.copy()
    result.remove("reference")
    where = next((over.marks[key] for key in over if key.partition(".")[0] == changed[0]), over.mark)
    logger.info("%s: changes `%s`, so the published figures (`reference`) are left out", where, changed[0])
    return result


def _other(below: Block, merged: Block, key: str) -> bool:
    return bool(plain(below.get(key)) != plain(merged.get(key)))
