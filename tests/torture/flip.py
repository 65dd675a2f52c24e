"""Damages one file of a small run and its store at a time, as disks and people do, and looks at what follows.

python -m tests.torture.flip --seconds S --seed N. Nothing may be wrong in silence, end in a traceback, or hang.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.torture.bench import RUN, Done, call, comparison, contents, finish, fresh, kill_at, main, start, warm

READERS = (
    ("status", "small", "--json"),
    ("compare", "small", "--json"),
    ("verify", "small", "--json"),
    ("cache", "list", "--json"),
    ("cache", "verify"),
    ("cache", "gc"),
    ("sample", "small", "--out", "drawn.npz", "--rows", "3", "--device", "cpu"),
)
SAID = (
    "damaged",
    "incomplete",
    "unreadable",
    "cannot read",
    "cannot write",
    "no run here",
    " gone",
    "link to nothing",
)


def flip(path: Path, dice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)


def cut(path: Path, dice: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: dice.randrange(len(content) or 1)])


def zeros(path: Path, dice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    first = dice.randrange(len(content) or 1)
    content[first : first + 512] = bytes(len(content[first : first + 512]))
    path.write_bytes(content)


def lose(path: Path, dice: random.Random) -> None:
    path.unlink()


def fifo(path: Path, dice: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path, dice: random.Random) -> None:
    path.unlink()
    (path / "x").mkdir(parents=True)


def dangling(path: Path, dice: random.Random) -> None:
    path.unlink()
    path.symlink_to("nowhere/at/all")


def loop(path: Path, dice: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def listening(path: Path, dice: random.Random) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)


WAYS: tuple[Callable[[Path, random.Random], None], ...] = (
    flip, flip, flip, flip, cut, zeros, lose, fifo, folder, dangling, loop, listening,
)  # fmt: skip


def run(seconds: float, seed: int, at_least: int = 0) -> dict[str, Any]:
    """Damage files for `seconds`, and `at_least` so many. Counts of what followed; `cases` says what was wrong."""
    dice = random.Random(seed)
    counts: Counter[str] = Counter(damaged=0, silent=0, traceback=0, hang=0, named=0, harmless=0, repaired=0)
    cases: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        root, here = Path(name), Path(name) / "here"
        fresh(here)
        for words in (RUN, *READERS):
            warm(words)
        Path("drawn.npz").unlink()
        whole, compared, standing = contents(Path("runs/.store")), comparison(), _arms(call(*READERS[0]))
        templates = [(here.rename(root / "whole"), True)]
        for n in (9, 17, 26):  # kills with checkpoints and with pieces of rows left
            fresh(here)
            finish(start(RUN, kill_at(n)))
            templates.append((here.rename(root / f"killed-{n}"), False))
        begun = time.monotonic()
        while time.monotonic() - begun < seconds or counts["damaged"] < at_least:
            template, finished = dice.choice([templates[0], *templates])
            os.chdir(root)
            shutil.rmtree(here, ignore_errors=True)
            shutil.copytree(template, here, symlinks=True)
            os.chdir(here)
            files = sorted(path for path in Path("runs").rglob("*") if path.is_file() and "pictures" not in path.parts)
            path, way = dice.choice(files), dice.choice(WAYS)
            way(path, dice)
            counts["damaged"] += 1
            what = f"{template.name}: {way.__name__} {path}"
            said = False
            for words in READERS:
                done = call(*words)
                bad = _bad(done)
                named = any(word in done.err + done.out for word in SAID)
                wrong = finished and done.code == 0 and (
                    (words[0] == "compare" and done.out != compared)
                    or (words[0] == "status" and _arms(done) != standing)
                )  # fmt: skip
                said |= named
                if bad or (wrong and not named):
                    counts[bad or "silent"] += 1
                    cases.append(f"{what}: {' '.join(words)}: {bad or 'silent'}: {done.err[-600:]}")
            done = call(*RUN)
            bad = _bad(done)
            if bad:
                counts[bad] += 1
                cases.append(f"{what}: run: {bad}: {done.err[-600:]}")
            elif done.code != 0:
                counts["named"] += 1
                if not any(word in done.err for word in SAID) or str(path.name) not in done.err:
                    counts["silent"] += 1
                    cases.append(f"{what}: run: exit {done.code} without a name: {done.err[-600:]}")
            elif contents(Path("runs/.store")) != whole or comparison() != compared:
                counts["silent"] += 1
                cases.append(f"{what}: run: another result: {done.err[-600:]}")
            else:
                counts["repaired" if said or any(word in done.err for word in SAID) else "harmless"] += 1
        os.chdir("/")
    return {**counts, "cases": cases}


def _bad(done: Done) -> str:
    if done.code is None:
        return "hang"
    return "traceback" if done.code in (1, -11) or "Traceback" in done.err else ""


def _arms(done: Done) -> object:
    return json.loads(done.out)["arms"] if done.code == 0 else None


if __name__ == "__main__":
    main(run)
