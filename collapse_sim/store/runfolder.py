"""Writing a run directory: claim it for a recipe, refuse another recipe's, and keep the journal."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from collapse_sim.errors import RecipeError
from collapse_sim.store import journal
from collapse_sim.store.files import canonical_json, check_place, digest_of, explained, write_atomic
from collapse_sim.store.process import environment, owner
from collapse_sim.store.rundir import JOURNAL_FILE, PICTURES, RECIPE_FILE, RUN_FILE, SCHEMA, damaged, read_run
from collapse_sim.store.store import REFERENCES_LOCK

# What may grow or change when a run is continued; everything else makes it a different experiment.
GROWS = ("name", "description", "generations", "seeds", "arms", "metrics", "baseline", "show", "claims", "reference")


class RunFolder:
    """One run directory, open for writing. Several processes may write to it at once: lines are appended whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / JOURNAL_FILE
        self.pictures = folder / PICTURES
        self._known: dict[tuple[Any, ...], dict[str, Any]] = {}

    def check(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """run.json as claiming the folder would write it; nothing is made or changed.

        Raises RecipeError when the folder holds a different experiment (it says what differs), StoreError when it is of
        a newer schema, damaged or unwritable.
        """
        check_place(self.folder, "--out")
        path = self.folder / RUN_FILE
        if not path.exists():
            return dict(content)
        old = read_run(self.folder)
        try:
            return merge_runs(old, content, self.folder)
        except (KeyError, TypeError, AttributeError) as error:
            raise damaged(path, f"{type(error).__name__}: {error}") from error

    def claim(self, content: Mapping[str, Any], store: Path) -> None:
        """Write run.json and recipe.yaml, or extend what is there by new arms, seeds, generations and metrics.

        Raises what `check` does.
        """
        merged = self.check(content)
        known = self._recorded()
        with explained(self.folder, "--out"):
            self.pictures.mkdir(parents=True, exist_ok=True)
        fresh = not (self.folder / RUN_FILE).exists()
        merged["schema"] = SCHEMA
        merged["store"] = os.path.relpath(store.resolve(), self.folder.resolve())
        text = json.dumps(merged, indent=1)
        if fresh or text != (self.folder / RUN_FILE).read_text(encoding="utf-8"):
            write_atomic(self.folder / RECIPE_FILE, yaml.safe_dump(dict(merged["settings"]), sort_keys=False))
            write_atomic(self.folder / RUN_FILE, text)
        self._known = known

    def _recorded(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        """The last lines of every arm and generation. Raises StoreError when one is not what it should be."""
        lines = [line for line in journal.read(self.journal) if line.get("event") in ("scores", "diverged")]
        try:
            return {_place(line): line for line in lines}
        except (KeyError, TypeError) as error:
            raise damaged(self.journal, f"a line of scores: {type(error).__name__}: {error}") from error

    def record_session(self, command: Sequence[str], device: str, precision: str) -> None:
        """Note who continues the run, with what."""
        session = {
            "event": "session",
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "command": list(command),
            "device": device,
            "precision": precision,
            "environment": environment(),
        }
        journal.append(self.journal, [session])

    def record_scores(
        self, k: int, arm: str, seeds: Sequence[int], values: Mapping[str, Sequence[float]], fit: str, samples: str
    ) -> None:
        """One line for an arm's scores of a generation, unless the journal has just that already."""
        line = {
            "event": "scores",
            "generation": k,
            "arm": arm,
            "seeds": list(seeds),
            "metrics": {name: list(v) for name, v in values.items()},
            "fit": fit,
            "samples": samples,
        }
        self._record(line)

    def record_diverged(self, arm: str, k: int, seed: int, message: str) -> None:
        """One line for a chain that ended at generation k: its scores are nan from there on."""
        self._record({"event": "diverged", "generation": k, "arm": arm, "seed": seed, "message": message})

    def _record(self, line: dict[str, Any]) -> None:
        known = self._known.get(_place(line))
        if known is None or json.dumps(known) != json.dumps(line):
            journal.append(self.journal, [line])
            self._known[_place(line)] = line

    def record_generation(self, k: int, made: Mapping[str, int], reused: Mapping[str, int], wall_s: float) -> None:
        """How much of generation k was made now, and how much was there."""
        line = {
            "event": "generation",
            "generation": k,
            "made": dict(made),
            "reused": dict(reused),
            "wall_s": round(wall_s, 3),
        }
        journal.append(self.journal, [line])


def _place(line: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a line is of: a later one of the same replaces it."""
    seeds = tuple(line["seeds"]) if line["event"] == "scores" else line["seed"]
    return line["event"], line["arm"], line["generation"], seeds


def merge_runs(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """run.json of the union of both. Raises RecipeError when they are different experiments."""
    before, now = old["settings"], new["settings"]
    differences = list(_differences(before, now))
    for name in before["arms"]:
        if name in now["arms"]:
            differences += _pairs(before["arms"][name], now["arms"][name], f"arms.{name}")
    for name, metric in old["metrics"].items():
        if name in new["metrics"] and new["metrics"][name]["settings"] != metric["settings"]:
            others = _pairs(metric["settings"], new["metrics"][name]["settings"], f"metrics.{name}")
            differences += [f"{difference}; or give it another name with `as:`" for difference in others]
        elif name in new["metrics"] and "features" in metric:
            differences += _pairs(metric["features"], new["metrics"][name].get("features"), f"metrics.{name}.features")
    if old.get("fingerprint", new["fingerprint"]) != new["fingerprint"]:
        differences.append("data: the files had another content there than they have here")
    if differences:
        raise RecipeError(
            f"{folder}: holds a run of a different recipe; choose another folder with --out, or undo:",
            *(f"  {line}" for line in differences),
        )
    merged = dict(new)
    merged["generations"] = max(old["generations"], new["generations"])
    for key in ("seeds", "arms"):
        if set(old[key]) - set(new[key]):  # a part of the run is continued, or something beside it: its own order stays
            merged[key] = list(dict.fromkeys((*old[key], *new[key])))
    merged["metrics"] = {**new["metrics"], **{n: m for n, m in old["metrics"].items() if n not in new["metrics"]}}
    merged["theory"] = {**old["theory"], **new["theory"]} if new["generations"] >= old["generations"] else old["theory"]
    if set(old["arms"]) - set(new["arms"]) or old["generations"] > new["generations"]:
        merged["claims"], merged["reference"], merged["baseline"] = old["claims"], old["reference"], old["baseline"]
    settings = dict(now)
    settings["arms"] = {name: {**before["arms"], **now["arms"]}[name] for name in merged["arms"]}
    settings["seeds"], settings["generations"] = merged["seeds"], merged["generations"]
    written = dict(zip(old["metrics"], before["metrics"], strict=True))
    written |= zip(new["metrics"], now["metrics"], strict=True)
    settings["metrics"] = [written[name] for name in merged["metrics"]]
    for key in ("claims", "reference", "baseline"):
        if merged.get(key):
            settings[key] = merged[key]
    merged["settings"] = settings
    merged["recipe"] = digest_of(settings)
    return merged


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys((*before, *now)):
        if key not in GROWS:
            yield from _pairs(before.get(key), now.get(key), key)


def _pairs(before: Any, now: Any, path: str) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            yield from _pairs(before.get(key), now.get(key), f"{path}.{key}")
    elif canonical_json(before) != canonical_json(now):
        yield f"{path}: {_short(before)} there, {_short(now)} here"


def _short(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value)


@contextmanager
def registered(store: Path, folder: Path, references: Mapping[str, Sequence[int]]) -> Iterator[None]:
    """Tell the store what a run refers to (digest -> seeds, [] for seedless), and that a process is at work on it."""
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    path = store / "runs" / f"{name}.json"
    mark = store / "locks" / f"active-{owner()}.lock"
    active = FileLock(mark)
    with explained(store, "--store"), FileLock(store / "locks" / REFERENCES_LOCK):
        known: dict[str, list[int]] = {}
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):  # a damaged one is written anew
            known = dict(json.loads(path.read_text(encoding="utf-8"))["references"])
        for digest, seeds in references.items():
            known[digest] = sorted({*known.get(digest, []), *seeds})
        write_atomic(path, json.dumps({"run": str(folder.resolve()), "references": known}))
        active.acquire()
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)
        active.release()
