"""How artefacts lie in a mirror, and the transfer of one.

URL/files/ab/SHA256               the files of artefacts, under the hash of their content
URL/objects/ab/DIGEST/BLOCK.json  the manifest of an artefact as it is in the store; written last, if there is none

So an artefact is there if its manifest is; an interrupted upload leaves files that no manifest names, and that the next
one finds. Whoever writes, a manifest names files by their content, so it never describes the bytes of somebody else.
Nothing is trusted that is read: names, sizes and hashes are checked before an artefact is moved into the store.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from collapse_sim.core.files import explain_write_errors, file_hash, read_bytes, remove
from collapse_sim.core.remote import Remote
from collapse_sim.store import sealed
from collapse_sim.store.blocks import MANIFEST, object_folder, parse_block
from collapse_sim.store.jobs import Job
from collapse_sim.store.lease import token
from collapse_sim.store.placing import move_into_place
from collapse_sim.store.records import difference

MOST_MANIFEST = 64 * 2**20  # bytes
SMALL = 2**16  # bytes up to which a file is uploaded without asking whether it is there
HASH = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[^\x00-\x1f\x7f/\\.][^\x00-\x1f\x7f/\\]{0,199}")  # of a file within its artefact's folder
OTHER_FACTS: dict[str, type | tuple[type, ...]] = {
    "generation": int, "description": dict, "environment": dict, "machine": dict, "wall_s": (int, float),
    "created": str, "group": list,
}  # fmt: skip

Moved = Callable[[int], None]  # called with the bytes of each piece that was transferred


class UnfitError(Exception):
    """An artefact cannot be taken from a mirror. `damaged`: nor by anybody else."""

    def __init__(self, message: str, *, damaged: bool = True) -> None:
        self.damaged = damaged
        super().__init__(message)


def boundary(name: str) -> None:
    """A point where a kill must not leave half of an artefact that counts as one. Tests replace this function."""


def listed(remote: Remote, digest: str) -> dict[str, int]:
    """The blocks of a digest that a mirror has, with the bytes of their manifests. Raises RemoteError."""
    names = remote.names(_folder(digest))
    blocks = {name.removesuffix(".json"): size for name, size in names.items() if name.endswith(".json")}
    return {block: size for block, size in blocks.items() if parse_block(block)}


def fetch_block(remote: Remote, root: Path, job: Job, size: int, moved: Moved) -> int:
    """Put an artefact of a mirror into the store. Returns its bytes. `size`: the bytes of its manifest.

    Raises UnfitError, RemoteError, and StoreError for the disk.
    """
    raw = _manifest(remote, job, size)
    try:
        manifest = sealed.parse(raw)
        files = dict(checked_files(manifest, job))
        problem = difference(root, job, manifest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnfitError(f"its manifest is unusable: {error}") from None
    if problem:
        raise UnfitError(problem, damaged=False)
    total = sum(size for size, _ in files.values())
    scratch = root / "tmp" / f"fetched-{token()}-{secrets.token_hex(4)}"
    with explain_write_errors(root, "--store"):
        if total > (free := shutil.disk_usage(root).free):
            raise UnfitError(f"its files have {total:,} bytes, and the disk has {free:,} left", damaged=False)
        scratch.mkdir()
        try:
            for name, (length, digest) in files.items():
                _download(remote, digest, length, scratch / name, moved)
            (scratch / MANIFEST).write_bytes(raw)
            target = object_folder(root, job.spec.digest) / job.block
            target.parent.mkdir(parents=True, exist_ok=True)
            move_into_place(root, scratch, target)
        finally:
            remove(scratch)
    return total


def _manifest(remote: Remote, job: Job, size: int) -> bytes:
    if size > MOST_MANIFEST:
        raise UnfitError(f"its manifest has {size:,} bytes")
    try:
        return remote.read(manifest_name(job.spec.digest, job.block), size)
    except FileNotFoundError:
        raise UnfitError("its manifest is gone") from None


def checked_files(manifest: Mapping[str, Any], job: Job) -> Iterator[tuple[str, tuple[int, str]]]:
    """Name, bytes and hash of each file. Raises ValueError, KeyError, TypeError or AttributeError for a manifest that
    is not this artefact's, or that names anything but files in the artefact's own folder."""
    own = {"kind": job.spec.kind, "digest": job.spec.digest, "seeds": list(job.seeds), "stacked": job.spec.stacked}
    for key, value in own.items():
        if manifest[key] != value:
            raise ValueError(f"its {key} is {str(manifest[key])[:80]!r} instead of {str(value)[:80]!r}")
    for key, kind in OTHER_FACTS.items():
        if key in manifest and not isinstance(manifest[key], kind):
            raise ValueError(f"its {key} is {str(manifest[key])[:80]!r}")
    if not all(isinstance(version, str) for version in manifest.get("environment", {}).values()):
        raise ValueError("its environment has versions that are none")
    for name, facts in manifest["files"].items():
        if not NAME.fullmatch(name) or name == MANIFEST:
            raise ValueError(f"{name[:80]!r} is not the name of a file in an artefact")
        size, digest = facts["bytes"], facts["sha256"]
        if type(size) is not int or size < 0 or not HASH.fullmatch(digest):
            raise ValueError(f"{name}: its size or hash is none")
        yield name, (size, digest)


def _download(remote: Remote, digest: str, size: int, path: Path, moved: Moved) -> None:
    """Write a file, and check its hash on the way. Raises UnfitError."""
    content, left = hashlib.sha256(), size
    with path.open("xb") as file:
        try:
            for chunk in remote.chunks(file_name(digest), size):
                left -= len(chunk)
                if left < 0:
                    raise UnfitError(f"{path.name} has more than {size:,} bytes")
                content.update(chunk)
                file.write(chunk)
                moved(len(chunk))
        except FileNotFoundError:
            raise UnfitError(f"{path.name} is missing") from None
    if left:
        raise UnfitError(f"{path.name} has {size - left:,} bytes instead of {size:,}")
    if content.hexdigest() != digest:
        raise UnfitError(f"{path.name} does not match its hash")


def push_block(remote: Remote, folder: Path, moved: Moved, *, again: bool = False) -> int | None:
    """Upload a committed artefact: first its files, then its manifest. Returns the bytes of its files; None if
    it is there already.

    One that is there stays as it is, unless `again` is set, because it is damaged. Raises RemoteError, UnfitError if
    the artefact is damaged, and FileNotFoundError if it was removed meanwhile.
    """
    digest, block = folder.parent.name, folder.name
    raw = read_bytes(folder / MANIFEST)
    try:
        files = {name: (facts["bytes"], facts["sha256"]) for name, facts in sealed.parse(raw)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnfitError(f"{folder / MANIFEST}: damaged ({error})") from None
    for name, (size, expected) in files.items():
        path = folder / name
        if file_hash(path) != expected:
            raise UnfitError(f"{path}: damaged (it does not match its hash)")
        remote_name = file_name(expected)
        if again or size <= SMALL or remote.size(remote_name) != size:
            remote.put(path, remote_name, moved)
        boundary("mirrored file")
    if again:
        remote.replace(manifest_name(digest, block), raw)
    elif not remote.create(manifest_name(digest, block), raw):
        return None
    boundary("mirrored manifest")
    return int(sum(size for size, _ in files.values()))


def manifest_name(digest: str, block: str) -> str:
    return f"{_folder(digest)}/{block}.json"


def file_name(digest: str) -> str:
    """Where a file with this sha256 is."""
    return f"files/{digest[:2]}/{digest}"


def _folder(digest: str) -> str:
    return f"objects/{digest[:2]}/{digest}"
