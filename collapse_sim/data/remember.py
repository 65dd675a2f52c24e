"""What was found out about files, kept between starts: to hash 200,000 files takes minutes, to list them a second.

It lies in COLLAPSE_SIM_CACHE, or else in XDG_CACHE_HOME/collapse-sim, or ~/.cache/collapse-sim: one small file for each
folder that was looked at, and beside them what is made of texts (text_tokens.py, tokenizers_made.py). All of it may be
removed at any time; where nothing can be written, nothing is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collapse_sim.errors import StoreError
from collapse_sim.store.files import digest_of, write_atomic

FORMAT = 2  # raised when what is found out, or how it is written down, changes
SETTLED_NS = 2 * 10**9  # a file changed more recently may change again without a new time: clocks of disks are coarse


@dataclass(frozen=True)
class Stamps:
    """By what a changed file is noticed without reading it: names, sizes, times of change."""

    digest: str
    newest_ns: int  # the last change of any file
    taken_ns: int  # the clock before the files were looked at

    @classmethod
    def of(cls, files: Iterable[tuple[str, os.stat_result]], taken_ns: int) -> Stamps:
        """Of files by name. The time of change that no program can set (ctime) counts beside that of the content."""
        newest, total = 0, hashlib.sha256()
        for name, found in files:
            told = f"\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ctime_ns}\0"
            total.update(name.encode("utf-8", "surrogateescape") + told.encode())  # names need not be UTF-8
            newest = max(newest, found.st_mtime_ns, found.st_ctime_ns)
        return cls(total.hexdigest(), newest, taken_ns)


def recall(what: str, place: Path, stamps: Stamps) -> dict[str, Any] | None:
    """What was kept of `place`, if no file has changed since and the note is whole; else None."""
    try:
        kept = json.loads(_file(what, place).read_text(encoding="utf-8"))
        found, proof = dict(kept["found"]), _proof(stamps, kept["found"])
        return found if kept["stamps"] == stamps.digest and kept["proof"] == proof else None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return None


def keep(what: str, place: Path, stamps: Stamps, found: dict[str, Any]) -> None:
    """Keep what was found out about `place` for later starts, if its files have not changed just now."""
    if stamps.taken_ns - stamps.newest_ns < SETTLED_NS:
        return
    with contextlib.suppress(OSError, RuntimeError, StoreError):
        path = _file(what, place)
        path.parent.mkdir(parents=True, exist_ok=True)
        note = {"place": str(place), "stamps": stamps.digest, "found": found, "proof": _proof(stamps, found)}
        write_atomic(path, json.dumps(note), durable=False)


def _proof(stamps: Stamps, found: Any) -> str:
    """What a note that was damaged lacks: its content is then found out anew."""
    return digest_of([stamps.digest, found])


def cache_folder() -> Path:
    """Where it lies. Raises RuntimeError when there is no home folder."""
    given = os.environ.get("COLLAPSE_SIM_CACHE")
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given).expanduser() if given else users / "collapse-sim"


def _file(what: str, place: Path) -> Path:
    return cache_folder() / "files" / f"{digest_of([FORMAT, what, str(place)])}.json"
