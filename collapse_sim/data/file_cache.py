"""A cache of facts about files, kept between starts: hashing 200,000 files takes minutes, listing them takes a second.

The cache is in COLLAPSE_SIM_CACHE, or else in XDG_CACHE_HOME/collapse-sim, or ~/.cache/collapse-sim: one small file per
folder that was checked, next to tokenised texts and tokenizers (text_tokens.py, tokenizers_made.py). All of it may be
removed at any time; if the folder is not writable, nothing is cached.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collapse_sim.core.errors import StoreError
from collapse_sim.core.files import write_atomic
from collapse_sim.core.hashing import digest_of
from collapse_sim.store import sealed

FORMAT = 2  # raised when the cached facts or their format change
SETTLED_NS = 2 * 10**9  # a file changed more recently may change again with the same time: disk timestamps are coarse

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileStats:
    """Names, sizes and modification times: enough to detect a changed file without reading it."""

    digest: str
    newest_ns: int  # the last change of any file
    taken_ns: int  # the time before the files were examined

    @classmethod
    def of(cls, files: Iterable[tuple[str, os.stat_result]], taken_ns: int) -> FileStats:
        """The statistics of files given by name. Includes ctime, which no program can set, as well as mtime."""
        newest, total = 0, hashlib.sha256()
        for name, status in files:
            total.update(os.fsencode(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\0"))
            newest = max(newest, status.st_mtime_ns, status.st_ctime_ns)
        return cls(total.hexdigest(), newest, taken_ns)


def load(what: str, path: Path, stamps: FileStats) -> dict[str, Any] | None:
    """The facts cached for `path`, if no file has changed since and the record is intact; else None."""
    try:
        record = unsealed(_file(what, path))
    except RuntimeError:
        return None
    return record["found"] if record is not None and record["stamps"] == stamps.digest else None


def store(what: str, path: Path, stamps: FileStats, result: dict[str, Any]) -> None:
    """Cache the facts about `path` for later starts, unless its files have changed very recently."""
    if stamps.taken_ns - stamps.newest_ns < SETTLED_NS:
        return
    with contextlib.suppress(OSError, RuntimeError, StoreError):
        seal(_file(what, path), {"place": str(path), "stamps": stamps.digest, "found": result})


# Everything in the cache is stored with its hash: a bit flipped on disk must not change the rows.


def seal(path: Path, value: dict[str, Any]) -> None:
    """Write JSON with its own hash, for `unsealed`. Raises OSError or StoreError if it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, sealed.text(value), durable=False)


def unsealed(path: Path) -> dict[str, Any] | None:
    """Read what `seal` has written; None when there is no file, or when it is damaged, which is logged."""
    try:
        return sealed.read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.info("%s: damaged (%s), so it is created again", path, error)
        return None


def cache_folder() -> Path:
    """The folder of the cache. Raises RuntimeError when there is no home folder."""
    chosen = os.environ.get("COLLAPSE_SIM_CACHE")
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen).expanduser() if chosen else default / "collapse-sim"


def _file(what: str, path: Path) -> Path:
    return cache_folder() / "files" / f"{digest_of([FORMAT, what, str(path)])}.json"
