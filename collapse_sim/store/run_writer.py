"""Writes a run directory: claims it for a recipe, refuses a directory of another recipe, and keeps the journal."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from collapse_sim.core.errors import CollapseSimError, RecipeError
from collapse_sim.core.files import check_place, explain_write_errors, read_bytes, sweep_scratch, write_atomic
from collapse_sim.core.hashing import canonical_json, digest_of
from collapse_sim.store import journal, recorded, sealed
from collapse_sim.store.machine_lock import MachineLock, locked
from collapse_sim.store.process import environment, revision
from collapse_sim.store.run_directory import (
    BY_ARM,
    JOURNAL_FILE,
    LOCK_FILE,
    PICTURES,
    RECIPE_FILE,
    RUN_FILE,
    SCHEMA,
    common,
    damaged,
    problems_of,
    read_recorded,
    read_run,
    recipe_of,
    recipe_text,
    values_by_arm,
)

logger = logging.getLogger(__name__)

# Keys that may change when a run is continued; a change of any other key makes it a different experiment.
GROWS = (
    "name",
    "description",
    "generations",
    "seeds",
    "arms",
    "metrics",
    "baseline",
    "show",
    "tuned_on",
    "claims",
    "reference",
    "keep_weights",
    "keep_samples",
)

HOW = ("train.shard",)  # ends of the paths of settings that say how something is computed, and change no number
RECORDED = ("scores", "curation", "diverged")  # events of lines that are about something, and are not repeated


class RunWriter:
    """One run directory, open for writing. Several processes may write to it at once: their content is merged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / JOURNAL_FILE
        self.pictures = folder / PICTURES
        self._known: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._claimed: tuple[dict[str, Any], Path] | None = None  # what `claim` was called with
        self._seen = (0, 0)  # the version of run.json that has it

    def check(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """run.json as `claim` would write it; nothing is created or changed.

        Raises RecipeError when the folder holds a different experiment (it says what differs), StoreError when it is of
        a newer schema, damaged or unwritable.
        """
        check_place(self.folder, "--out")
        journal.check(self.journal)
        path = self.folder / RUN_FILE
        if not os.path.lexists(path):
            return dict(content)
        old = read_run(self.folder)
        try:
            return merge_runs(old, content, self.folder)
        except (KeyError, TypeError, AttributeError) as error:
            raise damaged(path, f"{type(error).__name__}: {error}") from error

    def claim(self, content: Mapping[str, Any], store: Path) -> None:
        """Write run.json and recipe.yaml, or extend existing ones by new arms, seeds, generations and metrics.

        Damaged lines of the journal are reported and removed; the run records them again from the store. Raises what
        `check` raises.
        """
        self.check(content)
        with explain_write_errors(self.folder, "--out"):
            self.pictures.mkdir(parents=True, exist_ok=True)
        with self._locked() as lock:
            merged = self._merged(lock, content, store)
            self._repair()
            sweep_scratch(self.folder)
            self._write(merged)
            self._claimed = dict(content), store

    def _merged(self, lock: MachineLock, content: Mapping[str, Any], store: Path) -> dict[str, Any]:
        """The union of run.json, as it is now, and what this process claims."""
        while True:
            merged = self.check(content)  # another process may have written meanwhile
            if lock.is_ours():
                break
            lock.release()  # this process was stopped for so long that another machine took the lock over
            lock.acquire()
        merged["schema"] = SCHEMA
        merged["store"] = os.path.relpath(store.resolve(), self.folder.resolve())
        merged["store_at"] = str(store.resolve())
        return merged

    def _write(self, merged: Mapping[str, Any]) -> None:
        text, recipe = sealed.text(merged, indent=1), _recipe_text(merged)
        for name, new in ((RECIPE_FILE, recipe), (RUN_FILE, text.encode())):
            if self._content(name) != new:
                write_atomic(self.folder / name, new)
        self._seen = self._version()

    def _version(self) -> tuple[int, int]:
        """Which run.json is in the folder; (0, 0): none."""
        with suppress(OSError):
            facts = (self.folder / RUN_FILE).stat()
            return facts.st_ino, facts.st_mtime_ns
        return 0, 0

    def _keep_claim(self, lock: MachineLock) -> None:
        """Add this process's part to run.json again if one that had lost the lock wrote it without that part."""
        if self._claimed is None or self._version() == self._seen:
            return
        self._seen = self._version()
        try:
            run = read_run(self.folder)
        except CollapseSimError:  # damaged or removed: the next claim says so
            return
        if lacks_part(run, self._claimed[0]):
            self._write(self._merged(lock, *self._claimed))

    def _content(self, name: str) -> bytes | None:
        with suppress(OSError):
            return read_bytes(self.folder / name)
        return None

    @contextmanager
    def _locked(self) -> Iterator[MachineLock]:
        with locked(self.folder / LOCK_FILE, "--out") as lock:
            yield lock

    def _repair(self) -> None:
        """Remove damaged lines from the journal, and rewrite recorded.json if it is damaged."""
        known_scores, content = read_recorded(self.folder), journal.load(self.journal)
        if os.path.lexists(self.folder / RUN_FILE):  # otherwise it is a new run's folder
            for problem in problems_of(self.folder, content, known_scores):
                logger.warning(problem)
        if isinstance(known_scores, str):
            scores: recorded.Scores = {}
            recorded.add(scores, content.lines)
            recorded.write(self.folder, scores)
        if content.damaged or content.torn:
            journal.rewrite(self.journal, content.lines)
        self._known = {_line_key(line): line for line in content.lines if line["event"] in RECORDED}

    def _append(self, line: Mapping[str, Any]) -> None:
        with self._locked() as lock:
            self._keep_claim(lock)
            journal.append(self.journal, [line], durable=line["event"] not in RECORDED)  # the store has these, too
            if line["event"] != "scores":
                return
            try:
                scores = recorded.read(self.folder)
            except (OSError, ValueError):  # damaged during the run
                scores = {}
                recorded.add(scores, journal.read(self.journal))
            recorded.add(scores, [line])
            recorded.write(self.folder, scores)

    def record_session(self, command: Sequence[str], device: str, precision: str) -> None:
        """Record the command, device and versions that continue the run."""
        checkout = revision()
        session = {
            "event": "session",
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "command": list(command),
            "device": device,
            "precision": precision,
            "environment": environment(),
            **({"revision": checkout} if checkout else {}),
        }
        self._append(session)

    def record_scores(
        self,
        k: int,
        arm: str,
        seeds: Sequence[int],
        values: Mapping[str, Sequence[float]],
        fit: str,
        samples: str,
        rows: Mapping[str, str],
        updates: Sequence[int | None] | None = None,
    ) -> None:
        """One line for an arm's scores of a generation, unless the journal already has the same line.

        `rows`: the digests of scores that may keep values per held-out row, by metric. `updates`: of each seed's fit,
        if fits end when they have converged; None for a chain that diverged.
        """
        line = {
            "event": "scores",
            "generation": k,
            "arm": arm,
            "seeds": list(seeds),
            "metrics": {name: list(v) for name, v in values.items()},
            "fit": fit,
            "samples": samples,
            "rows": dict(rows),
            **({} if updates is None else {"updates": list(updates)}),
        }
        self._record(line)

    def record_curation(
        self, k: int, arm: str, seeds: Sequence[int], figures: Mapping[str, Sequence[float]], digest: str
    ) -> None:
        """One line for what an arm kept of the rows of generation k: {figure: a value per seed}, null where there is
        none."""
        values = {name: [v if math.isfinite(v) else None for v in of] for name, of in figures.items()}
        line = {
            "event": "curation",
            "generation": k,
            "arm": arm,
            "seeds": list(seeds),
            "figures": values,
            "curation": digest,
        }
        self._record(line)

    def record_diverged(self, arm: str, k: int, seed: int, message: str) -> None:
        """One line for a chain that ended at generation k: its scores are nan from there on."""
        self._record({"event": "diverged", "generation": k, "arm": arm, "seed": seed, "message": message})

    def _record(self, line: dict[str, Any]) -> None:
        known = self._known.get(_line_key(line))
        if known is None or json.dumps(known) != json.dumps(line):
            self._append(line)
            self._known[_line_key(line)] = line

    def record_generation(self, k: int, created: Mapping[str, int], reused: Mapping[str, int], wall_s: float) -> None:
        """How much of generation k was made now, and how much was reused."""
        line = {
            "event": "generation",
            "generation": k,
            "made": dict(created),
            "reused": dict(reused),
            "wall_s": round(wall_s, 3),
        }
        self._append(line)


def _recipe_text(run: Mapping[str, Any]) -> bytes:
    return recipe_text(yaml.safe_dump(dict(run["settings"]), sort_keys=False))


def own_recipe(path: Path) -> None:
    """Check that a recipe to be run, if it is a run directory's own, is what the run wrote.

    A missing one is written again, from run.json. Raises StoreError when it was edited or damaged.
    """
    folder = path.parent
    if path.name != RECIPE_FILE or not os.path.lexists(folder / RUN_FILE):
        return
    if not os.path.lexists(path):
        run = read_run(folder)
        if not isinstance(run.get("settings"), dict):
            raise damaged(folder / RUN_FILE, "it lacks settings")
        write_atomic(path, _recipe_text(run))
        logger.warning("%s was missing; it is rewritten from %s", path, RUN_FILE)
    recipe_of(folder)


def _line_key(line: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a line is about: a later line with the same key replaces it."""
    seeds = line["seed"] if line["event"] == "diverged" else tuple(line["seeds"])
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
        differences.append("data: the files had different content there")
    if differences:
        raise RecipeError(
            f"{folder}: holds a run of a different recipe; choose another folder with --out, or undo:",
            *(f"  {line}" for line in differences),
        )
    merged = dict(new)
    merged["generations"] = max(old["generations"], new["generations"])
    for key in ("seeds", "arms"):
        if set(old[key]) - set(new[key]):  # a part of the run is continued, or something is added: keep its order
            merged[key] = list(dict.fromkeys((*old[key], *new[key])))
    merged["metrics"] = {**new["metrics"], **{n: m for n, m in old["metrics"].items() if n not in new["metrics"]}}
    for name in set(old["metrics"]) & set(new["metrics"]):
        merged["metrics"][name] = _merged_metric(name, old, new)
    longer = new["generations"] >= old["generations"]
    for key in ("theory", "training"):
        merged[key] = {**old.get(key, {}), **new.get(key, {})} if longer else {**new.get(key, {}), **old.get(key, {})}
    if set(old["arms"]) - set(new["arms"]) or old["generations"] > new["generations"]:
        merged["claims"], merged["reference"], merged["baseline"] = old["claims"], old["reference"], old["baseline"]
    elif set(old["seeds"]) - set(new["seeds"]):
        merged["claims"] = _claims(old["claims"], new["claims"])
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


def lacks_part(run: Mapping[str, Any], claimed: Mapping[str, Any]) -> bool:
    """Whether something that a process has claimed is not in run.json."""
    names = any(set(claimed[key]) - set(run[key]) for key in ("arms", "seeds", "metrics"))
    return names or run["generations"] < claimed["generations"]


def _merged_metric(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """A metric as the new part of the run has it, with what it says of arms that only the old part has."""
    metric = dict(new["metrics"][name])
    for key in BY_ARM:
        before = values_by_arm(old["metrics"][name].get(key), old["arms"])
        now = values_by_arm(metric.get(key), new["arms"])
        value = common({**before, **now})
        if value is not None:
            metric[key] = value
    return metric


def _claims(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The new claims, with `seeds` of theirs that this part of the run lacks, and old claims of such seeds only."""
    named = [{key: value for key, value in claim.items() if key != "seeds"} for claim in new]
    claims = [dict(claim) for claim in new]
    for claim in old:
        rest = {key: value for key, value in claim.items() if key != "seeds"}
        if not claim.get("seeds"):
            continue
        if rest not in named:
            claims.append(dict(claim))
        elif (own := claims[named.index(rest)]).get("seeds"):
            own["seeds"] = list(dict.fromkeys((*claim["seeds"], *own["seeds"])))
    return claims


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys((*before, *now)):
        if key not in GROWS:
            yield from _pairs(before.get(key), now.get(key), key)


def _pairs(before: Any, now: Any, path: str) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            yield from _pairs(before.get(key), now.get(key), f"{path}.{key}")
    elif canonical_json(before) != canonical_json(now) and not path.endswith(HOW):
        yield f"{path}: {_short(before)} there, {_short(now)} here"


def _short(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value)
