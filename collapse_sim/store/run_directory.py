"""A run directory: run.json (what the run is), recipe.yaml, journal.jsonl, recorded.json, live.json, pictures/.

live-TOKEN.json is that of a further process, while it is at work (ui/live_files.py).
starting.json exists while a process that was started to run it has not begun yet (ui/starting.py). All files except it
and the pictures contain a hash of their own: JSON files are sealed (store/sealed.py), each journal line has one, and
recipe.yaml begins with one. run.json:
  {"schema": 1, "name": ..., "recipe": DIGEST, "store": PATH (relative to the run directory), "store_at": the same,
   absolute, as of the last run, "generations": 5,
   "seeds": [...], "arms": [NAME, ...], "baseline": NAME, "show": METRIC,
   "metrics": {NAME: {"better": "lower"|"higher"|null, "unit": "share of real rows", "bounds": [0.0, 1.0],
                      "resolution": 0.001 (the least step it can make, where known; BY_ARM),
                      "settings": ..., "features": "inception 6726825d",
                      "note": "5,000 samples against 10,000 held-out rows; inception 6726825d" (BY_ARM),
                      "warning": "biased: fewer than 10,000 samples" | "" (BY_ARM)}},
   "tuned_on": [SEED, ...] | null, "claims": [{"that", "metric", "generation", "expect", "seeds" (own)}, ...],
   "reference": [{"source", "metric", "generation": 5, "values": {ARM: figure}}, ...],
   "training": {ARM: {"protocol", "rows": [...], "updates": [...], "epochs": [...]}}, a number per generation,
   "theory": {ARM: {METRIC: [value at generation 0, 1, ...]}}, "settings": {the resolved recipe},
   "samples": rows per generation, "kind": of the data}
BY_ARM: where it is not the same for all arms, {ARM: value}.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from collapse_sim.core.errors import RecipeError, StoreError
from collapse_sim.core.files import read_bytes
from collapse_sim.store import journal, recorded, sealed
from collapse_sim.store.blocks import blocks_or_records

SCHEMA = 1
REMAKE = "run the recipe again with another --out beside this one: finished work is found in the store"
COMPLETE = "running the same commands again completes it from the store"
RUNS = Path("runs")  # the folder with the runs, relative to the current folder
STARTING_FILE = "starting.json"
RUN_FILE, RECIPE_FILE, JOURNAL_FILE, LIVE_FILE, PICTURES = (
    "run.json",
    "recipe.yaml",
    "journal.jsonl",
    "live.json",
    "pictures",
)
LOCK_FILE = ".lock"  # held while run.json, recipe.yaml, the journal or recorded.json is changed
BY_ARM = ("note", "warning", "resolution")  # of a metric, which depend on an arm's numbers of rows
RECIPE_HEAD = b"# sha256 of the lines below, as this run wrote them: "


def common(values: Mapping[str, Any]) -> Any:
    """The value of all arms if they have the same one, else {arm: value} as it is given."""
    first = next(iter(values.values()))
    return first if all(value == first for value in values.values()) else dict(values)


def values_by_arm(value: Any, arms: Iterable[str]) -> dict[str, Any]:
    """{arm: value} of what `common` returned for these arms."""
    return dict(value) if isinstance(value, Mapping) else dict.fromkeys(arms, value)


def read_run(folder: Path) -> dict[str, Any]:
    """run.json of a run directory. Raises RecipeError when there is none, StoreError when it is damaged or newer."""
    path = folder / RUN_FILE
    if not os.path.lexists(path):
        raise no_run(folder)
    try:
        raw = read_bytes(path)
        header = sealed.loads(raw)
        schema = int(header["schema"])
        if schema <= SCHEMA:
            content = sealed.parse(raw)
    except OSError as error:
        raise damaged(path, error.strerror or error) from error
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise damaged(path, error) from error
    if schema > SCHEMA:
        raise StoreError(
            f"{path}: written by a newer collapse-sim (schema {schema}, this one knows {SCHEMA}): update collapse-sim"
        )
    lacking = [key for key in ("name", "generations", "seeds", "arms", "metrics") if key not in content]
    if lacking:
        raise damaged(path, f"it lacks {', '.join(lacking)}")
    invalid = [key for key, allowed in SHAPES.items() if key in content and not allowed(content[key])]
    if invalid:
        raise damaged(path, f"invalid {', '.join(invalid)}")
    return content


SHAPES: Mapping[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str),
    "generations": lambda value: type(value) is int and 0 <= value <= journal.MAX_GENERATION,
    "seeds": lambda value: isinstance(value, list) and all(type(seed) is int and 0 <= seed < 2**63 for seed in value),
    "arms": lambda value: isinstance(value, list) and value != [] and all(isinstance(arm, str) for arm in value),
    "metrics": lambda value: isinstance(value, dict) and all(isinstance(entry, dict) for entry in value.values()),
    "store": lambda value: isinstance(value, str) and "\0" not in value,
    "store_at": lambda value: isinstance(value, str) and "\0" not in value,
}


def read_journal(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The intact lines of a run's journal, and its problems as sentences: damaged lines, lost scores.

    Raises StoreError when the journal's path is not a file.
    """
    scores = read_recorded(folder)  # before the journal, which may grow meanwhile
    content = journal.load(folder / JOURNAL_FILE)
    return content.lines, problems_of(folder, content, scores)


def read_recorded(folder: Path) -> recorded.Scores | str:
    """The content of recorded.json, or its problem in words."""
    try:
        return recorded.read(folder)
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:
        return str(error)


def problems_of(folder: Path, content: journal.Journal, scores: recorded.Scores | str) -> list[str]:
    """The problems of a journal and of recorded.json, as sentences."""
    problems = []
    count = len(content.damaged)
    if count:
        numbers = ", ".join(map(str, content.damaged[:5])) + (", ..." if count > 5 else "")
        lines = "line is" if count == 1 else "lines are"
        problems.append(f"{folder / JOURNAL_FILE}: {count} {lines} damaged and left out (line {numbers}); {COMPLETE}")
    if isinstance(scores, str):
        problems.append(
            f"{folder / recorded.RECORDED_FILE}: damaged ({scores}): it is not known whether {JOURNAL_FILE} is "
            f"complete; {COMPLETE}"
        )
    elif lost := recorded.lost_scores(scores, content.lines):
        shown = "; ".join(lost[:5]) + (f"; and {len(lost) - 5} more" if len(lost) > 5 else "")
        problems.append(f"{folder / JOURNAL_FILE}: incomplete, recorded scores are gone: {shown}; {COMPLETE}")
    return problems


def store_of(folder: Path) -> Path:
    """The store with the artefacts of the run in `folder`: at its path relative to the run directory, or beside it, or
    where it was before the run was moved. For a new run: .store beside it.

    The first of these that has models or samples of the run is used, so that a store of other runs is never taken.
    Raises what `read_run` does, and StoreError when the run has a journal and its store cannot be found.
    """
    default = folder.parent / ".store"
    if not os.path.lexists(folder / RUN_FILE):
        return default
    run = read_run(folder)
    last_known = (folder / str(run.get("store", ""))).resolve()
    places = [default] if last_known == default.resolve() else [last_known, default]
    places = [place for place in (*places, Path(str(run.get("store_at") or default))) if (place / "objects").is_dir()]
    lines = journal.read(folder / JOURNAL_FILE)
    named = list(dict.fromkeys(str(line[key]) for key in ("fit", "samples") for line in lines if key in line))
    for place in places:
        if not named or any(blocks_or_records(place, digest) for digest in _sample_of(named)):
            return place
    if lines:
        raise StoreError(
            f"{folder}: its store is not where it was ({last_known}), nor {default}, so everything of this run would "
            "be made again; give its path, or that of a new store, with `collapse-sim run ... --store DIR`"
        )
    return default


def _sample_of(digests: list[str]) -> Iterator[str]:
    """At most 200 of the digests, from both ends: a store that has none of them is not this run's."""
    yield from (digests if len(digests) <= 200 else [*digests[:100], *digests[-100:]])


def recipe_text(settings: str) -> bytes:
    """recipe.yaml of a run directory: a line with the hash, then YAML."""
    body = settings.encode()
    return RECIPE_HEAD + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def recipe_of(folder: Path) -> Path:
    """recipe.yaml of a run directory. Raises StoreError when it is not what the run wrote."""
    path = folder / RECIPE_FILE
    hint = (
        f"to continue the run as it is, remove this file, then `collapse-sim run {path}` writes it anew; to change the "
        "recipe, work on a copy in another place"
    )
    try:
        head, _, body = read_bytes(path).partition(b"\n")
    except OSError as error:
        raise StoreError(f"{path}: unreadable ({error.strerror or error}); {hint}") from error
    if head != RECIPE_HEAD + hashlib.sha256(body).hexdigest().encode():
        raise StoreError(f"{path}: edited or damaged, it is not what the run wrote; {hint}")
    return path


def no_run(folder: Path) -> RecipeError:
    """The error for a folder that is not a run directory."""
    return RecipeError(
        f"{folder}: no run here (no {RUN_FILE}); a run directory is what `collapse-sim run` prints at its end"
    )


def damaged(path: Path, reason: object) -> StoreError:
    """The error for a damaged file of a run directory, with what to do about it."""
    return StoreError(f"{path}: damaged ({reason}); {REMAKE}")


def runs_here() -> list[Path]:
    """The run directories below ./runs, by name, including those that a process is starting."""
    return sorted({path.parent for file in (RUN_FILE, STARTING_FILE) for path in RUNS.glob(f"*/{file}")})


def find_run(text: str, *, starting: bool = False) -> Path:
    """The run directory that a user names: a path, or the name of a run below ./runs.

    `starting`: also one that a process is about to begin. Raises RecipeError when neither is a run directory.
    """
    path = Path(text)
    with suppress(OSError, ValueError):  # a name that is too long for a file, or has a zero byte
        for folder in (path, RUNS / text):
            if os.path.lexists(folder / RUN_FILE) or (starting and (folder / STARTING_FILE).is_file()):
                return folder
        if path.is_dir():
            raise no_run(path)
    known = [folder.name for folder in runs_here()]
    close = difflib.get_close_matches(text, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"runs there: {', '.join(known[:10]) or 'none'}"
    raise RecipeError(f"{text}: no run here, neither a run directory nor the name of a run below ./{RUNS}; {hint}")
