"""Small file operations that survive a kill at any moment."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from collapse_sim.errors import StoreError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


def canonical_json(value: Any) -> str:
    """The one spelling of a JSON value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_of(value: Any) -> str:
    """sha256 of the canonical JSON, hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file's or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace `path` by `text` in one step: a reader sees the old or the new content, never a part."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with explained(path):
            with scratch.open("w", encoding="utf-8") as file:
                file.write(text)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def check_place(path: Path, option: str) -> Path:
    """The folder nearest to `path` that there is: `path` itself, or one above it. Nothing is made.

    Raises StoreError, naming the command-line option that chooses another place, when nothing can be written there.
    """
    place = path.absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise StoreError(f"{path}: cannot write: {place} is a file, not a folder; choose another place with {option}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise StoreError(f"{path}: cannot write: no permission for {place}; choose another place with {option}")
    return place


@contextlib.contextmanager
def explained(path: Path, option: str = "") -> Iterator[None]:
    """Turn an OSError that the disk or its permissions cause, on work below `path`, into a StoreError with advice.

    `option` is the command-line option that chooses another place, where there is one.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            hint = (
                "free some space (`collapse-sim cache gc` lists what no run refers to), then run the same command again"
            )
        elif error.errno in DENIED:
            hint = "choose another place" + (f" with {option}" if option else "")
        else:
            raise
        reason = error.strerror or str(error)
        raise StoreError(f"{path}: cannot write: {reason}; finished work is kept: {hint}") from error


def children(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing when there is no such folder."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
