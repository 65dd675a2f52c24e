"""The journal of a run: append-only JSON lines. A line that a kill tore off is dropped on reading, mended on writing.

Lines (`event` says which):
  {"event": "session", "time": ..., "command": [...], "environment": {...}}
  {"event": "scores", "generation": k, "arm": NAME, "seeds": [...], "metrics": {NAME: [one value a seed, ...]},
   "fit": DIGEST, "samples": DIGEST}
  {"event": "diverged", "generation": k, "arm": NAME, "seed": s, "message": ...}: its scores are nan from there on
  {"event": "generation", "generation": k, "made": {KIND: n}, "reused": {KIND: n}, "wall_s": s}
A later `scores` line of the same arm, generation, seed and metric replaces an earlier one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from collapse_sim.store.files import explained


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a journal; [] when there is none yet."""
    if not path.exists():
        return []
    lines = []
    for raw in path.read_bytes().split(b"\n"):
        try:
            line = json.loads(raw)
        except ValueError:
            continue  # torn by a kill, or the empty rest after the last newline
        if isinstance(line, dict):
            lines.append(line)
    return lines


def append(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Add lines in one write and flush them to the disk."""
    block = "".join(json.dumps(line, separators=(",", ":"), allow_nan=True) + "\n" for line in lines)
    with explained(path), path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                block = "\n" + block  # the last line was torn: start a new one
        file.write(block.encode())
        file.flush()
        os.fsync(file.fileno())
