"""What stays of an artefact whose weights or rows are removed: its manifest with all hashes, and its small files.

STORE/pruned/ab/DIGEST/BLOCK/   manifest.json as it was, and the artefact's files other than safetensors

A record stays when its artefact is made again, which is checked against it: the same key has to give the same bytes.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collapse_sim.core.files import file_hash, remove, sync
from collapse_sim.store import sealed
from collapse_sim.store.blocks import MANIFEST, Block, parse_block, record_folder, recorded_blocks
from collapse_sim.store.jobs import Job, where
from collapse_sim.store.lease import token
from collapse_sim.store.placing import set_aside
from collapse_sim.store.spec import Spec

REMOVED = ".safetensors"  # the ending of files that a record does without
SHOWN = 12  # digits of a hash in a message


def check_record(folder: Path) -> tuple[str, dict[str, Any]]:
    """What is wrong with a record ("" if nothing), and its manifest."""
    try:
        manifest = sealed.read(folder / MANIFEST)
        for name, facts in manifest["files"].items():
            if not name.endswith(REMOVED) and file_hash(folder / name) != facts["sha256"]:
                return f"{name} does not match its hash", {}
        if (*manifest["seeds"],) != tuple(seed for seed in parse_block(folder.name) if seed >= 0):
            return "it is not where its manifest says", {}
    except OSError as error:
        return f"unreadable: {error.strerror or error}", {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is unreadable: {error}", {}
    return "", manifest


def removed_bytes(manifest: Mapping[str, Any]) -> int:
    """The bytes of the files that the record of an artefact does without."""
    return sum(int(facts["bytes"]) for name, facts in manifest["files"].items() if name.endswith(REMOVED))


def write_record(root: Path, block: Path) -> None:
    """Write the record of a block, and flush it to disk, unless there is one. Raises OSError."""
    target = record_folder(root, block.parent.name) / block.name
    if os.path.lexists(target):
        if not check_record(target)[0]:
            return
        set_aside(root, target)
    scratch = root / "tmp" / f"record-{token()}-{secrets.token_hex(4)}"
    scratch.mkdir()
    try:
        for path in block.iterdir():
            if not path.name.endswith(REMOVED):
                shutil.copyfile(path, scratch / path.name)
                sync(scratch / path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch.replace(target)
        sync(target.parent)
    finally:
        remove(scratch)


def record_of(root: Path, spec: Spec, seed: int) -> Block | None:
    """The intact record that holds a seed; None without one."""
    key = seed if spec.seeded else -1
    for seeds, folder in recorded_blocks(root, spec.digest).items():
        if key in seeds and not check_record(folder)[0]:
            return Block(folder, () if seeds == (-1,) else seeds, spec.stacked)
    return None


def compiled_before(root: Path, job: Job) -> dict[str, list[int]] | None:
    """Which steps of what is made again were compiled, as its manifest has it ("machine", "compiled"); None without an
    intact record."""
    folder = recorded_blocks(root, job.spec.digest).get(job.seeds or (-1,))
    manifest = {} if folder is None else check_record(folder)[1]
    if not manifest:
        return None
    return {shapes: list(steps) for shapes, steps in manifest["machine"].get("compiled", {}).items()}


def difference(root: Path, job: Job, made: Mapping[str, Any]) -> str:
    """How an artefact that is made again differs from its record, with what to do; "" if it does not, or has none.

    `made`: its new manifest.
    """
    folder = recorded_blocks(root, job.spec.digest).get(job.seeds or (-1,))
    if folder is None:
        return ""
    what = f"{where(job, job.seeds)}: {job.spec.kind} {job.spec.digest[:SHOWN]}/{folder.name}"
    accept = f"to accept other bytes, which scores of the run then do not belong to, remove {folder}"
    problem, before = check_record(folder)
    if problem:
        return f"{what}: its record is damaged ({problem}), so what is made again cannot be checked; {accept}"
    files = [name for name in before["files"] if _hash(before, name) != _hash(made, name)]
    if not files and before["files"].keys() == made["files"].keys():
        return ""
    hashes = "; ".join(f"{name}: {_hash(before, name)} recorded, {_hash(made, name)} now" for name in files)
    return (
        f"{what}: it was pruned, and is not the same when it is made again ({hashes or 'other files'}), so it is not "
        f"used. Recorded: {_circumstances(before)}. Now: {_circumstances(made)}. Run it again where it was made, with "
        f"the same versions and options; {accept}"
    )


def _hash(manifest: Mapping[str, Any], name: str) -> str:
    """The beginning of the hash of a file."""
    facts = manifest["files"].get(name)
    return "missing" if facts is None else str(facts["sha256"])[:SHOWN]


def _circumstances(manifest: Mapping[str, Any]) -> str:
    """The machine, versions and options that an artefact was made with, in words."""
    machine = {name: value for name, value in manifest["machine"].items() if name != "compiled"}
    words = [f"{name} {value}" for name, value in (*machine.items(), *manifest["environment"].items())]
    words += ["compiled steps"] if "compiled" in manifest["machine"] else []
    words += [f"computed together with {len(manifest['group']) - 1} others"] if "group" in manifest else []
    return ", ".join(words)
