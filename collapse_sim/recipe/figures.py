"""Published figures belong to the experiment that a recipe was written for: another size of it does not have them."""

from __future__ import annotations

import logging

from collapse_sim.recipe.marked import Block, Items, plain

SIZE = ("data", "model", "train", "retrain", "protocol", "samples")  # what figures depend on, beside arms and metrics
logger = logging.getLogger(__name__)


def without_figures(below: Block, over: Block, merged: Block) -> Block:
    """`merged`, which is `over` laid over `below`, without a `reference` that `over` has changed the size under.

    `over` keeps it by writing the `reference` (or a part of it) itself. Another number of generations takes figures of
    the last one away, and leaves those of a generation that has a number.
    """
    reference = below.get("reference")
    if not isinstance(reference, Block | Items) or any(key.partition(".")[0] == "reference" for key in over):
        return merged
    kept = _numbered(reference)
    changed = [key for key in SIZE if _other(below, merged, key)]
    if changed:
        kept = None
    elif kept is not reference and _other(below, merged, "generations"):
        changed = ["generations"]
    if not changed or "reference" not in merged:
        return merged
    result = merged.copy()
    if kept is None:
        result.remove("reference")
    else:
        result.put("reference", kept, merged.marks["reference"])
    where = next((over.marks[key] for key in over if key.partition(".")[0] == changed[0]), over.mark)
    logger.info("%s: changes `%s`, so the published figures (`reference`) are left out", where, changed[0])
    return result


def _numbered(reference: Block | Items) -> Block | Items | None:
    """The figures that aren't of the last generation: `reference` itself if none is, None if all are."""
    if isinstance(reference, Block):
        return None if _of_last(reference) else reference
    kept = Items(reference.mark)
    for entry, mark in zip(reference, reference.marks, strict=True):
        if not _of_last(entry):
            kept.add(entry, mark)
    return reference if len(kept) == len(reference) else kept or None


def _of_last(entry: object) -> bool:
    return isinstance(entry, Block) and entry.get("generation", "last") == "last"


def _other(below: Block, merged: Block, key: str) -> bool:
    return bool(plain(below.get(key)) != plain(merged.get(key)))
