"""Removal of weights and rows that a run can make again: first their record, then the run's reference, then the files.

A kill between two of these steps loses nothing: the next call does the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from collapse_sim.core.errors import CollapseSimError
from collapse_sim.core.files import children, explain_write_errors, readable
from collapse_sim.store import sealed
from collapse_sim.store.blocks import MANIFEST, object_folder, parse_block, record_folder, recorded_blocks
from collapse_sim.store.cache import references
from collapse_sim.store.machine_lock import locked
from collapse_sim.store.placing import set_aside
from collapse_sim.store.records import check_record, removed_bytes, write_record
from collapse_sim.store.registration import Registration, registration_path
from collapse_sim.store.run_directory import store_of
from collapse_sim.store.store import REFERENCES_LOCK, Store


def boundary(name: str) -> None:
    """A point where a kill must not lose anything. Tests replace this function."""


class Pruned(NamedTuple):
    """How many artefacts were removed, and the bytes of their weights and rows."""

    artefacts: int = 0
    bytes: int = 0
    problem: str = ""  # why nothing was


def prune(store: Store, folder: Path, spare: Mapping[str, Collection[int]], arms: Collection[str]) -> Pruned:
    """Remove weights and rows that the run in `folder` can do without: {digest: seeds} (-1: the same for all seeds).

    What other runs refer to, or arms of this run other than `arms`, stays. A block of several seeds is removed as a
    whole or not at all. While the list of any run is damaged, nothing is removed. Raises StoreError.
    """
    with explain_write_errors(store.root, "--store"), locked(store.root / "locks" / REFERENCES_LOCK):
        path = registration_path(store.root, folder)
        users, problems = references(store)
        own = next((user for user in users if user.run == str(folder.resolve())), None)
        if problems or own is None:
            return Pruned(problem=problems[0] if problems else "")
        others = [user for user in users if user is not own]
        mine = {digest: seeds for digest, seeds in spare.items() if set(own.arms.get(digest, ())) <= set(arms)}
        blocks = [block for block in _blocks(store.root, mine) if _recorded(store.root, block)]
        boundary("pruning recorded")
        _release(path, own, _whole(store.root, mine))
        boundary("pruning released")
        freed = [
            _remove(store, block)
            for block in blocks
            if not any(user.holds(block.parent.name, parse_block(block.name)) for user in others)
        ]
        boundary("pruned")
    return Pruned(len(freed), sum(freed))


def _blocks(root: Path, spare: Mapping[str, Collection[int]]) -> Iterator[Path]:
    """The blocks of a store all of whose seeds are spare."""
    for digest, seeds in spare.items():
        for block in children(object_folder(root, digest)):
            if (own := parse_block(block.name)) and set(own) <= set(seeds):
                yield block


def _whole(root: Path, spare: Mapping[str, Collection[int]]) -> dict[str, Collection[int]]:
    """`spare` without the seeds of blocks that stay because others of their seeds are needed."""
    released: dict[str, Collection[int]] = {}
    for digest, seeds in spare.items():
        blocks = [set(parse_block(block.name)) for block in children(object_folder(root, digest))]
        released[digest] = set(seeds).difference(*(own for own in blocks if not own <= set(seeds)))
    return released


def _recorded(root: Path, block: Path) -> bool:
    """Write a block's record. Returns False for one that is gone or damaged, which stays as it is."""
    try:
        write_record(root, block)
    except FileNotFoundError:
        return False
    record = record_folder(root, block.parent.name) / block.name
    if check_record(record)[0]:
        set_aside(root, record)
        return False
    return True


def _release(path: Path, own: Registration, spare: Mapping[str, Collection[int]]) -> None:
    before = replace(own, references=dict(own.references), pruned=dict(own.pruned))
    for digest, seeds in spare.items():
        own.release(digest, seeds)
    if own != before:
        own.write(path)


def _remove(store: Store, block: Path) -> int:
    """Remove a block that has a record. Returns the bytes of its weights and rows."""
    _, manifest = check_record(record_folder(store.root, block.parent.name) / block.name)
    store.drop(block)
    set_aside(store.root, block, "pruned")
    boundary("pruning removed")
    return removed_bytes(manifest)


# What is pruned


def pruned_records(root: Path) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """The records of artefacts that are not in the store: folder, problem ("" if there is none), manifest."""
    with readable(root / "pruned"):
        digests = [digest for prefix in children(root / "pruned") for digest in children(prefix)]
    for digest in digests:
        for folder in recorded_blocks(root, digest.name).values():
            if not (object_folder(root, digest.name) / folder.name).exists():
                yield folder, *check_record(folder)


def pruned_total(root: Path) -> Pruned:
    """What is pruned in a store, by all runs."""
    sizes = [_removed(folder) for folder, _, _ in pruned_records(root)]
    return Pruned(len(sizes), sum(sizes))


def pruned_by(root: Path, folder: Path) -> Pruned:
    """What the run in `folder` has pruned, and is not in the store again. Nothing where it cannot be read."""
    try:
        own = Registration.read(registration_path(root, folder))
    except (OSError, ValueError, KeyError, TypeError):
        return Pruned()
    count = size = 0
    for digest, seeds in own.pruned.items():
        for of, record in recorded_blocks(root, digest).items():
            if (of == (-1,) or set(of) & set(seeds)) and not (object_folder(root, digest) / record.name).exists():
                count, size = count + 1, size + _removed(record)
    return Pruned(count, size)


def pruned_of(folder: Path) -> Pruned:
    """The same of a run in its own store; nothing where the store cannot be found."""
    try:
        return pruned_by(store_of(folder), folder)
    except CollapseSimError:
        return Pruned()


def _removed(record: Path) -> int:
    try:
        return removed_bytes(sealed.read(record / MANIFEST))
    except (OSError, ValueError, KeyError, TypeError):
        return 0
