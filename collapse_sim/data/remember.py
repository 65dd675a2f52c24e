"""What was found out about files, kept between starts: to hash 200,000 files takes minutes, to list them a second.

It lies in COLLAPSE_SIM_CACHE, or else in XDG_CACHE_HOME/collapse-sim, or ~/.cache/collapse-sim: one small file for each
folder that was looked at, and beside them what is made of texts (text_tokens.py, tokenizers_made.py). All of it may be
removed at any time; where nothing can be written, nothing is kept.
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

FORMAT = 2  # raised when what is found out, or how it is written down, changes
SETTLED_NS = 2 * 10**9  # a file changed more recently may change again without a new time: clocks of disks are coarse

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileStats:
    """By what a changed file is noticed without reading it: names, sizes, times of change."""

    digest: str
    newest_ns: int  # the last change of any file
    taken_ns: int  # the clock before the files were looked at

    @classmethod
    def of(cls, files: Iterable[tuple[str, os.stat_result]], taken_ns: int) -> FileStats:
        """Of files by name. The time of change that no program can set (ctime) counts beside that of the content."""
        newest, total = 0, hashlib.sha256()
        for name, found in files:
            total.update(os.fsencode(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ctime_ns}\0"))
            newest = max(newest, found.st_mtime_ns, found.st_ctime_ns)
        return cls(total.hexdigest(), newest, taken_ns)


def load(what: str, place: Path, stamps: FileStats) -> dict[str, Any] | None:
    """What was kept of `place`, if no file has changed since and the note is whole; else None."""
    try:
        kept = unsealed(_file(what, place))
    except RuntimeError:
        return None
    return kept["found"] if kept is not None and kept["stamps"] == stamps.digest else None


def store(what: str, place: Path, stamps: FileStats, found: dict[str, Any]) -> None:
    """Keep what was found out about `place` for later starts, if its files have not changed just now."""
    if stamps.taken_ns - stamps.newest_ns < SETTLED_NS:
        return
    with contextlib.suppress(OSError, RuntimeError, StoreError):
        seal(_file(what, place), {"place": str(place), "stamps": stamps.digest, "found": found})


# Everything in the cache proves itself: a bit that was flipped on a disk must not give other rows.


def seal(path: Path, value: dict[str, Any]) -> None:
    """Write JSON with its own hash, for `unsealed`. Raises OSError or StoreError where nothing can be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, sealed.text(value), durable=False)


def unsealed(path: Path) -> dict[str, Any] | None:
    """What `seal` has written; None when there is nothing, or it is not what was written, which is said."""
    try:
        return sealed.read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.info("%s: damaged (%s), so it is made again", path, error)
        return None


def cache_folder() -> Path:
    """Where it lies. Raises RuntimeError when there is no home folder."""
    given = os.environ.get("COLLAPSE_SIM_CACHE")
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given).expanduser() if given else users / "collapse-sim"


def _file(what: str, place: Path) -> Path:
    return cache_folder() / "files" / f"{digest_of([FORMAT, what, str(place)])}.json"
