"""What killed processes leave in a store, and its removal."""

from __future__ import annotations

from pathlib import Path

from collapse_sim.core.files import children, remove
from collapse_sim.store.blocks import parse_block, present
from collapse_sim.store.lease import MARK, living, owner_of
from collapse_sim.store.locks import sweep


def remove_orphans(root: Path) -> None:
    """Remove what killed processes left: scratch folders, marks, locks, checkpoints of finished artefacts."""
    leftovers = [path for path in children(root / "tmp") if owner_of(path.name)]
    for path in children(root / "partial"):
        digest, seeds = parse_partial(path.name)
        if seeds and set(seeds) <= present(root, digest):
            leftovers.append(path)
    locks = children(root / "locks")
    alive = living(root)  # after the listing: an owner of a listed file had its mark before
    for path in leftovers:
        if owner_of(path.name) not in alive:
            remove(path)
    for path in locks:
        mark = MARK.fullmatch(path.name)
        if path.suffix == ".lock" and not (mark and mark[1] in alive):
            sweep(path)


def parse_partial(name: str) -> tuple[str, tuple[int, ...]]:
    """Digest and seeds of a folder of unfinished work; ("", ()) for any other folder."""
    digest, _, rest = name.partition("-")
    seeds = parse_block(rest.partition("@")[0])
    return (digest, seeds) if seeds and owner_of(name) else ("", ())
