"""What killed processes leave in a store, and its removal.

Files in tmp/ and partial/ have their owner's token in their names (store/lease.py). Those of a process of this kernel
go as soon as it is dead. Those of another machine go when it has given no sign of life, and nothing in them has
changed, for GONE_S by the clock of the file system.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path

from collapse_sim.core.files import children, clock, remove, sweep_scratch
from collapse_sim.store.blocks import parse_block, present
from collapse_sim.store.lease import GONE_S, MARK, is_near, living, owner_of
from collapse_sim.store.locks import sweep
from collapse_sim.store.machine_lock import HELD, sweep_lock


def remove_orphans(root: Path) -> None:
    """Remove what killed processes left: scratch folders, marks, locks, checkpoints of finished artefacts."""
    leftovers = [path for path in children(root / "tmp") if owner_of(path.name)]
    for path in children(root / "partial"):
        digest, seeds = parse_partial(path.name)
        if seeds and set(seeds) <= present(root, digest):
            leftovers.append(path)
    locks = children(root / "locks")
    now = partial(clock, root / "tmp")
    alive = living(root, now)  # after the listing: an owner of a listed file had its mark before
    for path in _gone(leftovers, alive, root):
        remove(path)
    for path in dict.fromkeys(path.with_suffix("") if path.suffix == HELD else path for path in locks):
        mark = MARK.fullmatch(path.name)
        if mark and mark[1] not in alive:
            sweep(path)
        elif path.suffix == ".lock" and not mark:
            sweep_lock(path, now)
    for folder in (root / "tmp", root / "locks"):
        sweep_scratch(folder)


def gone(root: Path, paths: Iterable[Path]) -> list[Path]:
    """Those of these files whose owners are gone."""
    listed = list(paths)
    return _gone(listed, living(root, partial(clock, root / "tmp")), root) if listed else []


def _gone(paths: Iterable[Path], alive: Collection[str], root: Path) -> list[Path]:
    of_dead = [path for path in paths if owner_of(path.name) not in alive]
    near = [path for path in of_dead if is_near(owner_of(path.name))]
    far = [path for path in of_dead if path not in near]
    now = clock(root / "tmp") if far else 0.0
    return near + [path for path in far if now - _last_change(path) > GONE_S]


def _last_change(path: Path) -> float:
    """When a file or folder, or something in it, was last written; 0 if it is gone."""
    times = [0.0]
    for each in (path, *children(path)):
        with contextlib.suppress(OSError):
            times.append(each.lstat().st_mtime)
    return max(times)


def parse_partial(name: str) -> tuple[str, tuple[int, ...]]:
    """Digest and seeds of a folder of unfinished work; ("", ()) for any other folder."""
    digest, _, rest = name.partition("-")
    seeds = parse_block(rest.partition("@")[0])
    return (digest, seeds) if seeds and owner_of(name) else ("", ())
