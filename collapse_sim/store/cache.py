"""Maintenance of a store: what it contains, what no run refers to, and what is damaged."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from collapse_sim.core.errors import StoreError
from collapse_sim.core.files import children, clock, explain_write_errors, readable, remove
from collapse_sim.store import sealed
from collapse_sim.store.blocks import MANIFEST, check_block, parse_block
from collapse_sim.store.lease import living, token
from collapse_sim.store.machine_lock import locked, sweep_lock
from collapse_sim.store.orphans import parse_partial
from collapse_sim.store.registration import Registration
from collapse_sim.store.run_directory import RUN_FILE
from collapse_sim.store.store import REFERENCES_LOCK, Store


@dataclass(frozen=True)
class StoredArtefact:
    """One committed artefact."""

    folder: Path
    kind: str
    digest: str
    seeds: tuple[int, ...]  # (-1,) when it is the same for all seeds
    bytes: int
    runs: tuple[str, ...]  # the run directories that refer to it
    arms: tuple[str, ...] = ()  # of these runs, if it belongs to some of their arms but not to all
    generation: int | None = None
    created: str = ""  # UTC, as 2026-01-31T12:00:00Z

    @property
    def name(self) -> str:
        return f"{self.digest[:12]}/{self.folder.name}"


def open_store(root: Path) -> Store:
    """An existing store, read-only. Raises StoreError when there is none."""
    if not (root / "objects").is_dir():
        raise StoreError(
            f"{root}: no store here; name it with --store (by default it is .store beside the run directories)"
        )
    return Store(root, writable=False)


def entries(store: Store) -> Iterator[StoredArtefact]:
    """All committed artefacts."""
    users, _ = references(store)
    objects = store.root / "objects"
    with readable(objects):
        digests = [digest for prefix in children(objects) for digest in children(prefix)]
        folders = [folder for digest in digests for folder in children(digest)]
    for folder in folders:
        seeds = parse_block(folder.name)
        if not seeds:
            continue  # not a block
        digest = folder.parent.name
        using = [user for user in users if user.holds(digest, seeds)]
        runs, arms = tuple(user.run for user in using), [arm for user in using for arm in user.arms.get(digest, ())]
        yield StoredArtefact(
            folder,
            digest=digest,
            seeds=seeds,
            bytes=_size(folder),
            runs=runs,
            arms=tuple(dict.fromkeys(arms)),
            **_facts(folder),
        )


def _facts(folder: Path) -> dict[str, Any]:
    """Kind, generation and creation time from the manifest; kind "damaged" when its hash does not match."""
    try:
        manifest = sealed.read(folder / MANIFEST)
        return {"kind": manifest["kind"], "generation": manifest["generation"], "created": manifest["created"]}
    except (OSError, ValueError, KeyError):
        return {"kind": "damaged"}


def _size(folder: Path) -> int:
    """Bytes of the files in a folder; for anything else, its own size."""
    with contextlib.suppress(OSError):
        if not folder.is_dir():
            return folder.lstat().st_size
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return 0


def references(store: Store) -> tuple[list[Registration], list[str]]:
    """What every registered run refers to, and the problems of lists that cannot be read.

    Which artefacts the unreadable lists keep is unknown, so with any problem `collect` removes nothing.
    """
    users, problems = [], []
    with readable(store.root / "runs"):
        paths = [path for path in children(store.root / "runs") if path.suffix == ".json"]
    for path in paths:
        try:
            users.append(Registration.read(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or error
            problems.append(
                f"{path}: damaged ({reason}), so nothing is regarded as unused; run the recipe of that run again to "
                "rewrite it, or remove it if the run is gone"
            )
    return users, problems


def missing_runs(store: Store) -> list[str]:
    """Registered runs whose directory is gone or has moved: their artefacts are kept until `forget` removes the run."""
    return [user.run for user in references(store)[0] if not os.path.lexists(Path(user.run) / RUN_FILE)]


def sizes(artefacts: Iterable[StoredArtefact]) -> dict[str, dict[str, int]]:
    """{run directory ("": no run): number of artefacts, bytes that only this run needs, bytes shared with others}."""
    by_run: dict[str, dict[str, int]] = {}
    for entry in artefacts:
        for run in entry.runs or ("",):
            counts = by_run.setdefault(run, {"artefacts": 0, "own_bytes": 0, "shared_bytes": 0})
            counts["artefacts"] += 1
            counts["own_bytes" if len(entry.runs) < 2 else "shared_bytes"] += entry.bytes
    return dict(sorted(by_run.items(), key=lambda item: (item[0] == "", item[0])))


def forget(store: Store, runs: Collection[str]) -> None:
    """Unregister these runs, so that the store no longer keeps artefacts for them."""
    for path in children(store.root / "runs"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            if path.suffix == ".json" and sealed.read(path)["run"] in runs:
                path.unlink()


def refuse_if_active(store: Store, now: Callable[[], float] | None = None) -> None:
    """Raise StoreError while a run is using the store. `now`: as `living` has it."""
    for process in living(store.root, now).values():
        raise StoreError(f"{store.root}: in use by a run ({process}); try again when it has ended")


def collect(store: Store, *, delete: bool, without: Collection[str] = ()) -> tuple[list[StoredArtefact], list[Path]]:
    """Artefacts and unfinished work that no run refers to, ignoring the runs `without`; removed if `delete`.

    Raises StoreError while a run is active; a run that starts meanwhile waits.
    """
    if not delete:
        refuse_if_active(store)
        return _unused(store, without), _unfinished(store, without)
    with explain_write_errors(store.root, "--store"):
        (store.root / "tmp").mkdir(exist_ok=True)
        (store.root / "locks").mkdir(exist_ok=True)
        with locked(store.root / "locks" / REFERENCES_LOCK):
            refuse_if_active(store, partial(clock, store.root / "tmp"))
            unused, unfinished = _unused(store, without), _unfinished(store, without)
            records = _unused_records(store, without)
            forget(store, without)
            _remove(store, [*(entry.folder for entry in unused), *unfinished, *records])
    return unused, unfinished


def _unused(store: Store, without: Collection[str]) -> list[StoredArtefact]:
    """Artefacts that no run refers to."""
    if references(store)[1]:
        return []
    return [entry for entry in entries(store) if set(entry.runs) <= set(without)]


def _unused_records(store: Store, without: Collection[str]) -> list[Path]:
    """Records of pruned artefacts that no run refers to or has pruned."""
    users, problems = references(store)
    used = {digest for user in users if user.run not in without for digest in (*user.references, *user.pruned)}
    with readable(store.root / "pruned"):
        digests = [digest for prefix in children(store.root / "pruned") for digest in children(prefix)]
    return [] if problems else [folder for folder in digests if folder.name not in used]


def _unfinished(store: Store, without: Collection[str]) -> list[Path]:
    """Folders with the checkpoints of work that no run refers to."""
    users, problems = references(store)
    needed = [user.references for user in users if user.run not in without]
    used = {(digest, seed) for of in needed for digest, seeds in of.items() for seed in (*seeds, -1)}
    with readable(store.root / "partial"):
        parts = [(folder, *parse_partial(folder.name)) for folder in children(store.root / "partial")]
    return [
        f for f, digest, seeds in parts if seeds and not problems and not any((digest, seed) in used for seed in seeds)
    ]


def _remove(store: Store, folders: Iterable[Path]) -> None:
    """Move each folder away in one step, then remove it; also remove the locks of past runs."""
    for folder in folders:
        trash = store.root / "tmp" / f"gone-{token()}-{secrets.token_hex(4)}"
        with contextlib.suppress(FileNotFoundError):
            folder.rename(trash)
            remove(trash)
    for path in children(store.root / "locks"):
        if path.suffix == ".lock" and path.name != REFERENCES_LOCK:
            sweep_lock(path, partial(clock, store.root / "tmp"))


def damaged(store: Store) -> Iterator[tuple[StoredArtefact, str]]:
    """Artefacts that do not match their manifest, each with its problem."""
    for entry in entries(store):
        problem, _ = check_block(entry.folder)
        if problem:
            yield entry, problem
