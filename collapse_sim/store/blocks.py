"""Committed artefacts on disk: their paths, the seeds in their names, and whether they are intact."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collapse_sim.core.errors import StoreError
from collapse_sim.core.files import children, file_hash
from collapse_sim.store import sealed

MANIFEST = "manifest.json"
MAX_SEEDS = 10**6  # a name with more seeds is not a block's
BLOCK_NAME = re.compile(r"s\d+(-\d+)?(,\d+(-\d+)?)*")


@dataclass(frozen=True)
class Block:
    """One committed artefact, for one seed, several seeds (stacked), or all seeds (seeds = ())."""

    folder: Path
    seeds: tuple[int, ...]
    stacked: bool

    def file(self, name: str) -> Path:
        return self.folder / name


def object_folder(root: Path, digest: str) -> Path:
    """The folder with the blocks of a digest."""
    return root / "objects" / digest[:2] / digest


def present(root: Path, digest: str) -> set[int]:
    """Seeds (-1: seedless) of a digest in a store, by name only; the store need not exist."""
    return {seed for folder in children(object_folder(root, digest)) for seed in parse_block(folder.name)}


def record_folder(root: Path, digest: str) -> Path:
    """The folder with the records of pruned blocks of a digest (store/pruning.py)."""
    return root / "pruned" / digest[:2] / digest


def recorded_blocks(root: Path, digest: str) -> dict[tuple[int, ...], Path]:
    """The records of a digest's blocks, pruned or made again, by their seeds ((-1,) for "all")."""
    folders = children(record_folder(root, digest))
    return {seeds: folder for folder in folders if (seeds := parse_block(folder.name))}


def blocks_or_records(root: Path, digest: str) -> list[Path]:
    """The blocks of a digest, and the records of those that are pruned."""
    here = [folder for folder in children(object_folder(root, digest)) if parse_block(folder.name)]
    names = {folder.name for folder in here}
    return here + [folder for folder in recorded_blocks(root, digest).values() if folder.name not in names]


def block_name(seeds: tuple[int, ...]) -> str:
    """ "all", "s7", "s0-199", or "s0,3,5-9": runs of consecutive seeds."""
    if not seeds:
        return "all"
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return "s" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def parse_block(name: str) -> tuple[int, ...]:
    """The seeds in a block's name: (-1,) for "all", () for a name that is not a block's (an unrelated file)."""
    if name == "all":
        return (-1,)
    if not BLOCK_NAME.fullmatch(name):
        return ()
    ends = [(int(a), int(b or a)) for a, _, b in (part.partition("-") for part in name[1:].split(","))]
    if sum(b - a for a, b in ends) > MAX_SEEDS:
        return ()
    return tuple(seed for a, b in ends for seed in range(a, b + 1))


def write_manifest(folder: Path, manifest: Mapping[str, Any], *, durable: bool) -> None:
    """Write an artefact's manifest, which is its last file. `durable`: and flush it to disk."""
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        file.write(sealed.text(manifest, indent=1))
        if durable:
            file.flush()
            os.fsync(file.fileno())


def seconds_of(manifest: Mapping[str, Any]) -> float:
    """What an artefact took to make; if it was computed together with others, its share."""
    return float(manifest["wall_s"]) / len(manifest.get("group", [""]))


def check_block(folder: Path) -> tuple[str, dict[str, Any]]:
    """What is wrong with a committed artefact ("" if nothing), and its manifest."""
    try:
        manifest = sealed.read(folder / MANIFEST)
        for name, facts in manifest["files"].items():
            path = folder / name
            if not path.exists():
                return f"{name} is missing", {}
            if path.is_file() and path.stat().st_size != facts["bytes"]:
                return f"{name} has {path.stat().st_size} bytes instead of {facts['bytes']}", {}
            try:
                if file_hash(path) != facts["sha256"]:
                    return f"{name} does not match its hash", {}
            except OSError as error:
                return f"{name} is unreadable: {error.strerror or error}", {}
        seeds = manifest["seeds"]
        if folder.name != block_name(tuple(seeds)) or folder.parent.name != manifest["digest"]:
            return "it is not where its manifest says", {}
    except OSError as error:
        return f"{MANIFEST} is unreadable: {error.strerror or error}", {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is unreadable: {error}", {}
    return "", manifest


def stored_block(root: Path, digest: str, seed: int) -> Block | None:
    """The verified artefact of a digest that holds `seed`, read without opening the store; None: there is none.

    Raises StoreError when it is damaged.
    """
    for folder in children(object_folder(root, digest)):
        if {seed, -1} & {*parse_block(folder.name)}:
            problem, manifest = check_block(folder)
            if problem:
                raise StoreError(f"{folder}: damaged ({problem}); a run that needs it makes it again")
            return Block(folder, tuple(manifest["seeds"]), bool(manifest["stacked"]))
    return None
