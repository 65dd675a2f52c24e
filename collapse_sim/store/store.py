"""Content-addressed artefacts: made once, whoever asks, and found again after any interruption.

STORE/objects/ab/DIGEST/BLOCK/   manifest.json and the artefact's files; BLOCK names the seeds ("s0", "s0-199", "all")
STORE/tmp/                       artefacts being written; moved into objects/ in one step
STORE/partial/DIGEST-BLOCK/      checkpoints of unfinished work
STORE/locks/                     one lock an artefact being made
STORE/runs/                      what each run refers to, for `cache gc`
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from collapse_sim.errors import StoreError
from collapse_sim.events import Emit, JobFinished, JobStarted, Note, Waiting
from collapse_sim.specs import Spec
from collapse_sim.store.files import explained, file_hash, sync

MANIFEST = "manifest.json"
REFERENCES_LOCK = "references.lock"  # held while runs say what they refer to, and while gc removes the rest
POLL_S = 0.2
MAX_STACK = 1000  # seeds in one batched computation
MAX_NAME = 120  # characters of a block's name
BLOCK_NAME = re.compile(r"s\d+(-\d+)?(,\d+(-\d+)?)*")


def boundary(name: str) -> None:
    """A point where a kill must lose nothing that was finished. Tests replace it."""


@dataclass(frozen=True)
class Block:
    """One committed artefact, for one seed, several seeds (stacked), or all seeds (seeds = ())."""

    folder: Path
    seeds: tuple[int, ...]
    stacked: bool

    def file(self, name: str) -> Path:
        return self.folder / name


@dataclass(frozen=True)
class Want:
    """A spec that some arms need for some seeds."""

    spec: Spec
    seeds: tuple[int, ...]
    arms: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """What is missing of a spec, to be made in one go."""

    spec: Spec
    seeds: tuple[int, ...]  # () when the artefact is the same for all seeds
    arms: tuple[str, ...]

    @property
    def block(self) -> str:
        return block_name(self.seeds)


Build = Callable[[Job, Path], None]  # writes the artefact's files into the folder it is given


class Store:
    """Artefacts below `root`. Raises StoreError when the folder cannot be written to."""

    def __init__(self, root: Path, check_stop: Callable[[], None] = lambda: None) -> None:
        self.root = root
        self._check_stop = check_stop  # raises when the run is to stop; asked between jobs and while waiting
        with explained(root, "--store"):
            for name in ("objects", "tmp", "partial", "locks", "runs"):
                (root / name).mkdir(parents=True, exist_ok=True)
            probe = root / "tmp" / f"probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        self._blocks: dict[str, dict[int, Block]] = {}  # digest -> seed (or -1) -> block, verified in this process
        self._remove_orphans()

    # -- reading --------------------------------------------------------------------------------------------------

    def block(self, spec: Spec, seed: int) -> Block:
        """The verified artefact that holds `seed`. Raises StoreError when it is not there."""
        wanted = seed if spec.seeded else -1
        found = self._blocks.get(spec.digest, {}).get(wanted) or self._known(spec.digest).get(wanted)
        if found is None:
            raise StoreError(f"{self._folder(spec.digest)}: {spec.kind} of seed {seed} is missing")
        return found

    def missing(self, spec: Spec, seeds: Iterable[int], emit: Emit | None = None) -> tuple[int, ...]:
        """Seeds that are not in the store (for an unseeded spec: (-1,) or ()). Damaged artefacts are set aside."""
        known = self._known(spec.digest, emit)
        return tuple(seed for seed in (seeds if spec.seeded else (-1,)) if seed not in known)

    def present(self, digest: str) -> set[int]:
        """Seeds in the store by name alone, without verifying: for estimates."""
        return present(self.root, digest)

    def _known(self, digest: str, emit: Emit | None = None) -> dict[int, Block]:
        known = self._blocks.setdefault(digest, {})
        seen = {block.folder for block in known.values()}
        for folder in _children(self._folder(digest)):
            if folder in seen or not parse_block(folder.name):
                continue
            problem, manifest = check_block(folder)
            if problem:
                aside = self.root / "tmp" / f"damaged-{owner()}-{uuid.uuid4().hex[:8]}"
                try:
                    with explained(self.root, "--store"):
                        folder.rename(aside)
                except FileNotFoundError:
                    continue  # another process has just set it aside
                shutil.rmtree(aside, ignore_errors=True)
                if emit:
                    emit(Note(f"damaged artefact removed, it is made again: {folder} ({problem})"))
                continue
            block = Block(folder, tuple(manifest["seeds"]), bool(manifest["stacked"]))
            for seed in block.seeds or (-1,):
                known[seed] = block
        return known

    # -- making ---------------------------------------------------------------------------------------------------

    def make_all(self, wants: Sequence[Want], build: Build, emit: Emit) -> Counter[str]:
        """Make what is missing; equal wants are made once. What another process is making is waited for, last.

        Returns counts of artefacts: "made" and "reused", one a seed.
        """
        counts: Counter[str] = Counter()
        jobs = []
        for want in merge(wants):
            seeds = want.seeds if want.spec.seeded else (-1,)
            missing = self.missing(want.spec, want.seeds, emit)
            absent = set(missing)
            found = tuple(seed for seed in seeds if seed not in absent)
            if found:
                counts["reused"] += len(found)
                emit(_finished(Job(want.spec, want.spec.seeds(found), want.arms), True, 0.0))
            jobs += list(split(want, missing))
        for wait in (False, True):
            later = []
            for job in jobs:
                self._check_stop()
                outcome = self._make(job, build, emit, wait)
                if outcome is None:
                    later.append(job)
                else:
                    counts.update(outcome)
            jobs = later
        return counts

    def _make(self, job: Job, build: Build, emit: Emit, wait: bool) -> Counter[str] | None:
        spec = job.spec
        lock_name = spec.digest if spec.stacked else f"{spec.digest}-{job.block}"
        lock = FileLock(self.root / "locks" / f"{lock_name}.lock")
        try:
            with explained(self.root, "--store"):
                lock.acquire(timeout=0, poll_interval=POLL_S)
        except Timeout:
            emit(Waiting(spec.kind, spec.digest, spec.generation))
            if not wait:
                return None
            self._wait_for(lock)
        try:
            missing = self.missing(spec, job.seeds, emit)  # another process may have made them meanwhile
            counts = Counter({"reused": (len(job.seeds) or 1) - len(missing)})
            if missing:
                todo = Job(spec, spec.seeds(missing), job.arms)
                emit(JobStarted(spec.kind, spec.digest, spec.generation, job.arms, todo.seeds))
                started = time.perf_counter()
                self._commit(todo, build, started)
                emit(_finished(todo, False, time.perf_counter() - started))
                counts["made"] = len(missing)
            else:
                emit(_finished(job, True, 0.0))
            return counts
        finally:
            lock.release()

    def _wait_for(self, lock: BaseFileLock) -> None:
        while True:
            self._check_stop()
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=1, poll_interval=POLL_S)
                return

    def _commit(self, job: Job, build: Build, started: float) -> None:
        """Build in tmp/, flush, write the manifest last, move into place in one step."""
        scratch = self.root / "tmp" / f"{job.spec.digest[:16]}-{owner()}-{uuid.uuid4().hex[:8]}"
        target = self._folder(job.spec.digest) / job.block
        with explained(self.root, "--store"):
            scratch.mkdir()
        try:
            with explained(self.root, "--store"):
                build(job, scratch)
                boundary("built")
                files = {}
                for path in sorted(scratch.iterdir()):
                    sync(path)
                    files[path.name] = {"bytes": path.stat().st_size, "sha256": file_hash(path)}
                manifest = {
                    "kind": job.spec.kind,
                    "digest": job.spec.digest,
                    "seeds": list(job.seeds),
                    "stacked": job.spec.stacked,
                    "generation": job.spec.generation,
                    "files": files,
                    "description": job.spec.description,
                    "environment": environment(),
                    "wall_s": round(time.perf_counter() - started, 3),
                    "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                }
                with (scratch / MANIFEST).open("w", encoding="utf-8") as file:
                    json.dump(manifest, file, indent=1)
                    file.flush()
                    os.fsync(file.fileno())
                boundary("manifest")
                target.parent.mkdir(parents=True, exist_ok=True)
                scratch.replace(target)
                boundary("committed")
                sync(target.parent)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        block = Block(target, job.seeds, job.spec.stacked)
        for seed in job.seeds or (-1,):
            self._blocks.setdefault(job.spec.digest, {})[seed] = block
        shutil.rmtree(self.partial(job), ignore_errors=True)
        boundary("cleaned")

    def partial(self, job: Job) -> Path:
        """Where the unfinished work of a job keeps its checkpoints."""
        return self.root / "partial" / f"{job.spec.digest}-{job.block}"

    def _folder(self, digest: str) -> Path:
        return object_folder(self.root, digest)

    def _remove_orphans(self) -> None:
        """Remove what killed processes left: scratch folders of this machine, checkpoints of what is finished."""
        for path in _children(self.root / "tmp"):
            parts = path.name.split("-")
            if len(parts) >= 3 and parts[1] == _host() and parts[2].isdigit() and not _alive(int(parts[2])):
                shutil.rmtree(path, ignore_errors=True)
        for path in _children(self.root / "partial"):
            digest, _, block = path.name.partition("-")
            seeds = parse_block(block)
            if seeds and set(seeds) <= self.present(digest):
                shutil.rmtree(path, ignore_errors=True)


def object_folder(root: Path, digest: str) -> Path:
    """Where the blocks of a digest lie."""
    return root / "objects" / digest[:2] / digest


def present(root: Path, digest: str) -> set[int]:
    """Seeds (-1: seedless) that a store has of a digest, by name alone; the store need not exist."""
    return {seed for folder in _children(object_folder(root, digest)) for seed in parse_block(folder.name)}


def merge(wants: Iterable[Want]) -> list[Want]:
    """Equal digests become one want, with the union of the seeds and arms, in order of first appearance."""
    merged: dict[str, Want] = {}
    for want in wants:
        if want.spec.digest in merged:
            old = merged[want.spec.digest]
            seeds, arms = dict.fromkeys((*old.seeds, *want.seeds)), dict.fromkeys((*old.arms, *want.arms))
            want = Want(old.spec, tuple(seeds), tuple(arms))
        merged[want.spec.digest] = want
    return list(merged.values())


def split(want: Want, missing: tuple[int, ...]) -> Iterator[Job]:
    """Jobs for the missing seeds: one a seed, or many at once for stacked specs."""
    if not missing:
        return
    if not want.spec.seeded:
        yield Job(want.spec, (), want.arms)
        return
    size = MAX_STACK if want.spec.stacked else 1
    for first in range(0, len(missing), size):
        for seeds in _nameable(missing[first : first + size]):
            yield Job(want.spec, seeds, want.arms)


def _nameable(seeds: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Halves of scattered seeds until each piece has a name that a file system takes."""
    if len(block_name(seeds)) <= MAX_NAME:
        yield seeds
        return
    middle = len(seeds) // 2
    yield from _nameable(seeds[:middle])
    yield from _nameable(seeds[middle:])


def block_name(seeds: tuple[int, ...]) -> str:
    """ "all", "s7", "s0-199", or "s0,3,5-9": runs of consecutive seeds."""
    if not seeds:
        return "all"
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return "s" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def parse_block(name: str) -> tuple[int, ...]:
    """The seeds of a block's name: (-1,) for "all", () for what is no block (a file that something else left)."""
    if name == "all":
        return (-1,)
    if not BLOCK_NAME.fullmatch(name):
        return ()
    ends = [part.partition("-") for part in name[1:].split(",")]
    return tuple(seed for a, _, b in ends for seed in range(int(a), int(b or a) + 1))


def check_block(folder: Path) -> tuple[str, dict[str, Any]]:
    """What is wrong with a committed artefact ("" if nothing), and its manifest."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, facts in manifest["files"].items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing", {}
            if path.stat().st_size != facts["bytes"]:
                return f"{name} has {path.stat().st_size} bytes instead of {facts['bytes']}", {}
            if file_hash(path) != facts["sha256"]:
                return f"{name} does not match its hash", {}
        seeds = manifest["seeds"]
        if folder.name != block_name(tuple(seeds)) or folder.parent.name != manifest["digest"]:
            return "it is not where its manifest says", {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is unreadable: {error}", {}
    return "", manifest


def environment() -> dict[str, str]:
    """Versions that an artefact was made with."""
    return dict(_environment())


@cache
def _environment() -> tuple[tuple[str, str], ...]:
    import platform
    from importlib.metadata import version

    from collapse_sim import __version__

    names = ("torch", "numpy", "scipy", "scikit-learn")
    versions = {"collapse-sim": __version__, "python": platform.python_version(), **{n: version(n) for n in names}}
    return tuple(versions.items())


def owner() -> str:
    """Names this process in what it leaves behind."""
    return f"{_host()}-{os.getpid()}"


@cache
def _host() -> str:
    return "".join(c for c in socket.gethostname() if c.isalnum() or c == ".") or "host"


def _alive(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _finished(job: Job, reused: bool, wall_s: float) -> JobFinished:
    return JobFinished(job.spec.kind, job.spec.digest, job.spec.generation, job.arms, job.seeds, reused, wall_s)
