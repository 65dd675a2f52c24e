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
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from collapse_sim.errors import InterruptedRunError, StoreError
from collapse_sim.events import Emit, JobFailed, JobFinished, JobStarted, Note, Waiting
from collapse_sim.specs import Spec
from collapse_sim.store.blocks import MANIFEST, Block, check_block, object_folder, parse_block, present
from collapse_sim.store.failures import Failures, missing_of
from collapse_sim.store.files import children, explained, file_hash, sync
from collapse_sim.store.jobs import Job, Want, merge, split
from collapse_sim.store.process import alive, environment, host, owner

REFERENCES_LOCK = "references.lock"  # held while runs say what they refer to, and while gc removes the rest
POLL_S = 0.2


def boundary(name: str) -> None:
    """A point where a kill must lose nothing that was finished. Tests replace it."""


Build = Callable[[Job, Path], None]  # writes the artefact's files into the folder it is given


class Store:
    """Artefacts below `root`. Raises StoreError when the folder cannot be written to."""

    def __init__(self, root: Path, check_stop: Callable[[], None] = lambda: None) -> None:
        self.root = root
        self._check_stop = check_stop  # raises when the run is to stop; asked between jobs and while waiting
        self.failures = Failures()  # of this process
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

    def has(self, spec: Spec, seed: int) -> bool:
        """Whether the artefact of a seed is there, and whole."""
        known = self._blocks.get(spec.digest, {})
        return (seed if spec.seeded else -1) in known or not self.missing(spec, (seed,))

    def present(self, digest: str) -> set[int]:
        """Seeds in the store by name alone, without verifying: for estimates."""
        return present(self.root, digest)

    def _known(self, digest: str, emit: Emit | None = None) -> dict[int, Block]:
        known = self._blocks.setdefault(digest, {})
        seen = {block.folder for block in known.values()}
        for folder in children(self._folder(digest)):
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

        What a job raises ends that job, and is kept in `failures`; only InterruptedRunError and StoreError end all.
        What is made from a failed artefact is left out. Returns counts of artefacts: "made" and "reused", one a seed.
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
            jobs += list(split(want, missing_of(want.spec, missing, self.failures)))
        for wait in (False, True):
            later = []
            for job in jobs:
                self._check_stop()
                outcome = self._attempt(job, build, emit, wait)
                if outcome is None:
                    later.append(job)
                else:
                    counts.update(outcome)
            jobs = later
        return counts

    def _attempt(self, job: Job, build: Build, emit: Emit, wait: bool) -> Counter[str] | None:
        """Make a job; of a batch of seeds those that diverge are left out, and the rest is made without them."""
        spec = job.spec
        while True:
            try:
                return self._make(job, build, emit, wait)
            except (InterruptedRunError, StoreError):
                raise
            except Exception as error:
                failed = self.failures.add(job, error)
                arms, diverged = job.arms, failed.diverged
                emit(JobFailed(spec.kind, spec.digest, spec.generation, arms, failed.seeds, failed.message, diverged))
                rest = tuple(seed for seed in job.seeds if seed not in failed.seeds)
                if not rest:
                    return Counter()
                job = Job(spec, rest, arms)

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
        for path in children(self.root / "tmp"):
            parts = path.name.split("-")
            if len(parts) >= 3 and parts[1] == host() and parts[2].isdigit() and not alive(int(parts[2])):
                shutil.rmtree(path, ignore_errors=True)
        for path in children(self.root / "partial"):
            digest, _, block = path.name.partition("-")
            seeds = parse_block(block)
            if seeds and set(seeds) <= self.present(digest):
                shutil.rmtree(path, ignore_errors=True)


def _finished(job: Job, reused: bool, wall_s: float) -> JobFinished:
    return JobFinished(job.spec.kind, job.spec.digest, job.spec.generation, job.arms, job.seeds, reused, wall_s)
