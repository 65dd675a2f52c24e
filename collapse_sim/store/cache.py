"""Looking after a store: what is in it, what no run refers to, and whether all of it is what it was."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from collapse_sim.errors import StoreError
from collapse_sim.store.blocks import MANIFEST, check_block, parse_block
from collapse_sim.store.process import owner
from collapse_sim.store.store import REFERENCES_LOCK, Store


@dataclass(frozen=True)
class Entry:
    """One committed artefact."""

    folder: Path
    kind: str
    digest: str
    seeds: tuple[int, ...]  # (-1,) when it is the same for all seeds
    bytes: int
    runs: tuple[str, ...]  # the run directories that refer to it

    @property
    def name(self) -> str:
        return f"{self.digest[:12]}/{self.folder.name}"


def open_store(root: Path) -> Store:
    """An existing store. Raises StoreError when there is none."""
    if not (root / "objects").is_dir():
        raise StoreError(
            f"{root}: no store here; name it with --store (by default it is .store beside the run directories)"
        )
    return Store(root)


def entries(store: Store) -> Iterator[Entry]:
    """All committed artefacts."""
    users = references(store)
    for folder in sorted((store.root / "objects").glob("*/*/*")):
        if not parse_block(folder.name):
            continue  # not ours
        try:
            kind = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["kind"]
        except (OSError, ValueError, KeyError):
            kind = "damaged"
        digest, seeds = folder.parent.name, parse_block(folder.name)
        runs = tuple(
            run
            for run, known in users.items()
            if digest in known and (seeds == (-1,) or set(seeds) & set(known[digest]))
        )
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        yield Entry(folder, kind, digest, seeds, size, runs)


def references(store: Store) -> dict[str, dict[str, list[int]]]:
    """{run directory: {digest: seeds}} of every run that was ever registered."""
    found = {}
    for path in sorted((store.root / "runs").glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found[content["run"]] = content["references"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path}: damaged ({error}); run the recipe of that run again to write it anew") from error
    return found


def missing_runs(store: Store) -> list[str]:
    """Registered runs whose directory is gone or has moved: their artefacts are kept until they are forgotten."""
    return [run for run in references(store) if not (Path(run) / "run.json").is_file()]


def forget(store: Store, runs: Collection[str]) -> None:
    """Let the store no longer keep anything for these runs."""
    for path in (store.root / "runs").glob("*.json"):
        if json.loads(path.read_text(encoding="utf-8"))["run"] in runs:
            path.unlink()


def refuse_if_active(store: Store) -> None:
    """Raise StoreError while a run is using the store; remove the marks of runs that were killed."""
    for path in (store.root / "locks").glob("active-*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            host, _, process = path.stem.removeprefix("active-").rpartition("-")
            raise StoreError(
                f"{store.root}: in use by a run (process {process} on {host}); try again when it has ended"
            ) from None
        lock.release()
        path.unlink(missing_ok=True)


def collect(store: Store, *, delete: bool, without: Collection[str] = ()) -> tuple[list[Entry], list[Path]]:
    """Artefacts and unfinished work that no run refers to, the runs `without` not counted; removed when asked.

    Raises StoreError while a run is active; one that starts meanwhile waits.
    """
    with FileLock(store.root / "locks" / REFERENCES_LOCK):
        refuse_if_active(store)
        loose = [entry for entry in entries(store) if set(entry.runs) <= set(without)]
        unfinished = _unfinished(store, without)
        if delete:
            forget(store, without)
            _remove(store, [*(entry.folder for entry in loose), *unfinished])
    return loose, unfinished


def _unfinished(store: Store, without: Collection[str]) -> list[Path]:
    """Folders with the checkpoints of work that no run refers to."""
    counted = [known for run, known in references(store).items() if run not in without]
    kept = {(digest, seed) for known in counted for digest in known for seed in (*known[digest], -1)}
    found = []
    for folder in sorted((store.root / "partial").iterdir()):
        digest, _, block = folder.name.partition("-")
        seeds = parse_block(block)
        if seeds and not any((digest, seed) in kept for seed in seeds):
            found.append(folder)
    return found


def _remove(store: Store, folders: Iterable[Path]) -> None:
    """Each folder goes out of sight in one step, and is then removed at leisure; locks of past runs go too."""
    for folder in folders:
        aside = store.root / "tmp" / f"gone-{owner()}-{uuid.uuid4().hex[:8]}"
        folder.rename(aside)
        shutil.rmtree(aside)
    for path in (store.root / "locks").glob("*.lock"):
        if path.name != REFERENCES_LOCK:
            path.unlink(missing_ok=True)


def damaged(store: Store) -> Iterator[tuple[Entry, str]]:
    """Artefacts that are not what their manifest says, with what is wrong."""
    for entry in entries(store):
        problem, _ = check_block(entry.folder)
        if problem:
            yield entry, problem
