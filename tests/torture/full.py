"""Lets the disk fill up in the middle of a small run, then makes room and continues it.

python -m tests.torture.full --seconds S --seed N, as root: a disk of its own (tmpfs) is mounted for it. Each time the
run must end with exit code 5 and the word for it, keep all that was finished, and come to the same bytes when there is
room again.
"""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from collapse_sim.run import session
from tests.torture.bench import RUN, call, comparison, contents, finish, fresh, leftovers, main, start, warm

ROOM = "256m"  # for the whole run


def mount(place: Path, size: str, *options: str) -> bool:
    """A disk of its own at `place`, or its new size with the option remount. Whether that may be done here."""
    words = ["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={size}"]), "tmpfs", str(place)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def no_look_ahead() -> None:
    """A run looks for room before it begins; here the disk fills up later."""
    session.check_space = lambda *_: None


def run(seconds: float, seed: int, at_least: int = 0) -> dict[str, Any]:
    """Fill disks for `seconds`, and `at_least` so many. Counts; `cases` says what was wrong."""
    dice = random.Random(seed)
    counts: Counter[str] = Counter(full=0, finished=0, silent=0, traceback=0, hang=0, lost=0, differing=0, leftovers=0)
    cases: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        here, disk, begun = Path(name) / "here", Path(name) / "disk", time.monotonic()
        fresh(here)
        warm(RUN)
        fresh(here)
        assert call(*RUN).code == 0
        whole, compared = contents(Path("runs/.store")), comparison()
        needed = sum(path.stat().st_size for path in Path("runs").rglob("*") if path.is_file())
        disk.mkdir()
        while time.monotonic() - begun < seconds or counts["full"] < at_least:
            if not mount(disk, f"{dice.randint(40, needed // 1024)}k"):
                return {"skipped": "a disk cannot be mounted here: it takes root"}
            os.chdir(here)
            try:
                _one(disk, whole, compared, counts, cases)
            finally:
                os.chdir("/")
                subprocess.run(["umount", str(disk)], check=True)
    return {**counts, "cases": cases}


def _one(disk: Path, whole: dict[str, str], compared: str, counts: Counter[str], cases: list[str]) -> None:
    store, words = disk / "runs" / ".store", (*RUN, "--out", str(disk / "runs" / "small"))
    done = finish(start(words, no_look_ahead))
    if done.code == 0:
        counts["finished"] += 1
        return
    counts["full"] += 1
    kept = contents(store)
    counts["hang"] += done.code is None
    counts["traceback"] += "Traceback" in done.err
    counts["silent"] += done.code not in (5, None) or "No space left" not in done.err
    mount(disk, ROOM, "remount")
    again = call(*words)
    counts["lost"] += not kept.items() <= contents(store).items()
    said = call("compare", str(disk / "runs" / "small"), "--json").out
    counts["differing"] += contents(store) != whole or said != compared
    counts["leftovers"] += bool(leftovers(store))
    if again.code != 0 or done.code != 5 or contents(store) != whole:
        cases.append(f"exit {done.code}: {done.err[-600:]}\nagain {again.code}: {again.err[-600:]}")


if __name__ == "__main__":
    main(run)
