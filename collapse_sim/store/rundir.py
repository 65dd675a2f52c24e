"""A run directory: run.json (what the run is), recipe.yaml, journal.jsonl, live.json, pictures/.

starting.json is there while a process that was told to run it has not begun yet (ui/starting.py).

run.json:
  {"schema": 1, "name": ..., "recipe": DIGEST, "store": PATH (relative to the run directory), "generations": 5,
   "seeds": [...], "arms": [NAME, ...], "baseline": NAME, "show": METRIC,
   "metrics": {NAME: {"better": "lower"|"higher"|null, "settings": ..., "features": "inception 6726825d",
                      "note": "5,000 samples against 10,000 held-out rows; inception 6726825d",
                      "warning": "biased: fewer than 10,000 samples" | ""}},
   "claims": [{"that", "metric", "generation", "expect"}, ...], "reference": {...} | null,
   "theory": {ARM: {METRIC: [value at generation 0, 1, ...]}}, "settings": {the resolved recipe},
   "samples": rows a generation}
"""

from __future__ import annotations

import difflib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from collapse_sim.errors import RecipeError, StoreError

SCHEMA = 1
REMAKE = "run the recipe again with another --out beside this one: finished work is found in the store"
RUNS = Path("runs")  # where runs lie, seen from the folder the command is given in
STARTING_FILE = "starting.json"
RUN_FILE, RECIPE_FILE, JOURNAL_FILE, LIVE_FILE, PICTURES = (
    "run.json",
    "recipe.yaml",
    "journal.jsonl",
    "live.json",
    "pictures",
)


def read_run(folder: Path) -> dict[str, Any]:
    """run.json of a run directory. Raises RecipeError when it is none, StoreError when it is damaged or newer."""
    path = folder / RUN_FILE
    if not path.is_file():
        raise no_run(folder)
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema = int(content["schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from error
    if schema > SCHEMA:
        raise StoreError(
            f"{path}: written by a newer collapse-sim (schema {schema}, this one knows {SCHEMA}): update collapse-sim"
        )
    lacking = [key for key in ("name", "generations", "seeds", "arms", "metrics") if key not in content]
    if lacking:
        raise damaged(path, f"it lacks {', '.join(lacking)}")
    return content


def store_of(folder: Path) -> Path:
    """Where the artefacts of the run in `folder` are kept: where it says, if that is there, or else .store beside it.

    Raises what `read_run` does.
    """
    beside = folder.parent / ".store"
    if not (folder / RUN_FILE).is_file():
        return beside
    said = (folder / str(read_run(folder).get("store", ""))).resolve()
    return said if (said / "objects").is_dir() and said != beside.resolve() else beside


def no_run(folder: Path) -> RecipeError:
    """The error for a folder that is no run directory."""
    return RecipeError(
        f"{folder}: no run here (no {RUN_FILE}); a run directory is what `collapse-sim run` prints at its end"
    )


def damaged(path: Path, reason: object) -> StoreError:
    """The error for a file of a run directory that is not what it should be, and what to do about it."""
    return StoreError(f"{path}: damaged ({reason}); {REMAKE}")


def runs_here() -> list[Path]:
    """The run directories below ./runs, by name; those that a process is starting too."""
    return sorted({path.parent for file in (RUN_FILE, STARTING_FILE) for path in RUNS.glob(f"*/{file}")})


def find_run(text: str, *, starting: bool = False) -> Path:
    """The run directory that a user names: a path, or the name of a run below ./runs.

    `starting`: also one that a process is about to begin. Raises RecipeError when neither is a run directory.
    """
    given, named = Path(text), RUNS / text
    with suppress(OSError, ValueError):  # a name that is too long for a file, or has a zero byte
        for folder in (given, named):
            if (folder / RUN_FILE).is_file() or (starting and (folder / STARTING_FILE).is_file()):
                return folder
        if given.is_dir():
            raise no_run(given)
    known = [folder.name for folder in runs_here()]
    close = difflib.get_close_matches(text, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"runs there: {', '.join(known[:10]) or 'none'}"
    raise RecipeError(f"{text}: no run here, neither a run directory nor the name of a run below ./{RUNS}; {hint}")
