"""Content-addressed artefacts: each is made once, and found again by any run and after any interruption.

STORE/objects/ab/DIGEST/BLOCK/   manifest.json and the artefact's files; BLOCK names the seeds ("s0", "s0-199", "all")
STORE/tmp/                       artefacts being written; moved into objects/ in one step
STORE/partial/DIGEST-BLOCK@TOKEN/  checkpoints of unfinished work, of one process (store/lease.py)
STORE/locks/                     one lock (two files) per artefact being made, one mark per active process
STORE/runs/                      what each run refers to, for `cache gc`
STORE/pruned/                    records of artefacts whose weights or rows were removed (store/pruning.py)
"""

from __future__ import annotations

import contextlib
import math
import secrets
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from collapse_sim.core.errors import ENDS_RUN, RemadeDifferentlyError, StoreError
from collapse_sim.core.events import Emit, JobFailed, JobStarted, Note
from collapse_sim.core.files import children, explain_write_errors, file_hash, readable, remove, sync
from collapse_sim.core.memory_errors import out_of_memory
from collapse_sim.store.blocks import (
    Block,
    check_block,
    object_folder,
    parse_block,
    present,
    recorded_blocks,
    write_manifest,
)
from collapse_sim.store.failures import Failure, Failures, missing_of
from collapse_sim.store.jobs import Job, Request, merge, split
from collapse_sim.store.lease import is_near, lease, living, owner_of, token
from collapse_sim.store.mirror import Mirror, Unmirrored
from collapse_sim.store.orphans import gone, remove_orphans
from collapse_sim.store.placing import move_into_place, set_aside, try_out
from collapse_sim.store.process import environment
from collapse_sim.store.records import difference, record_of
from collapse_sim.store.spec import Spec
from collapse_sim.store.waiting import NO_WORK, POLLED, Idle, Meanwhile, Others, Patience

CHEAP_S = 1.0  # what takes less is not flushed to disk: if it is damaged by a loss of power, its hashes show it
REFERENCES_LOCK = "references.lock"  # held while runs register what they refer to, and while gc removes the rest


def boundary(name: str) -> None:
    """A point where a kill must not lose finished work. Tests replace this function."""


MadeOn = Callable[[Job], Mapping[str, Any]]  # device, precision and threads that an artefact is made with
# Writes each job's artefact into the folder of its place; returns {position: error} of the failed jobs of a group.
Build = Callable[[Sequence[Job], Sequence[Path]], Mapping[int, Exception]]
Grouping = Callable[[Sequence[Job]], Iterable[Sequence[Job]]]  # which jobs are built together


def one_by_one(jobs: Sequence[Job]) -> list[Sequence[Job]]:
    """Groups of one job each."""
    return [(job,) for job in jobs]


class Store:
    """Artefacts below `root`. Raises StoreError when the folder cannot be written to.

    With `writable=False` nothing is created, changed or removed, so that a store on a read-only disk can be read.
    """

    def __init__(self, root: Path, check_stop: Callable[[], None] = lambda: None, *, writable: bool = True) -> None:
        self.root = root
        self._writable = writable
        self._check_stop = check_stop  # raises when the run must stop; called between jobs and while waiting
        self.made_on: MadeOn = lambda job: {}  # for manifests; set by the code that opens the store for work
        self.mirror: Mirror = Unmirrored()  # the same
        self.failures = Failures()  # of this process
        self.patience = Patience()  # with other processes
        self.others = Others(root)
        self._most_together: float = math.inf  # jobs of a group; less after one has run out of memory
        self._blocks: dict[str, dict[int, Block]] = {}  # digest -> seed (or -1) -> block, verified in this process
        self._damaged: dict[Path, str] = {}  # damaged artefacts of a read-only store, with their problems
        if not writable:
            return
        with explain_write_errors(root, "--store"):
            for name in ("objects", "tmp", "partial", "locks", "runs"):
                (root / name).mkdir(parents=True, exist_ok=True)
            try_out(root)
        remove_orphans(root)

    # -- reading --------------------------------------------------------------------------------------------------

    def block(self, spec: Spec, seed: int) -> Block:
        """The verified artefact that holds `seed`. Raises StoreError when it is missing."""
        key = seed if spec.seeded else -1
        block = self._known(spec.digest, (key,)).get(key)
        if block is None:
            for folder, problem in self._damaged.items():
                if folder.parent == self._folder(spec.digest) and key in parse_block(folder.name):
                    raise StoreError(f"{folder}: damaged ({problem}); a run that needs it makes it again")
            raise StoreError(f"{self._folder(spec.digest)}: {spec.kind} of seed {seed} is missing")
        return block

    def missing(self, spec: Spec, seeds: Iterable[int], emit: Emit | None = None) -> tuple[int, ...]:
        """Seeds that are not in the store (for an unseeded spec: (-1,) or ()). Damaged artefacts are removed."""
        keys = tuple(seeds) if spec.seeded else (-1,)
        known = self._known(spec.digest, keys, emit)
        return tuple(key for key in keys if key not in known)

    def has(self, spec: Spec, seed: int) -> bool:
        """Whether the artefact of a seed is present and intact."""
        return not self.missing(spec, (seed,))

    def whole_or_record(self, spec: Spec, seed: int) -> Block | None:
        """An artefact or, if it is pruned, its record, which has all of its files but weights and rows."""
        return self.block(spec, seed) if self.has(spec, seed) else record_of(self.root, spec, seed)

    def drop(self, folder: Path) -> None:
        """Forget that a block is there: it has been removed."""
        known = self._blocks.get(folder.parent.name, {})
        self._blocks[folder.parent.name] = {seed: block for seed, block in known.items() if block.folder != folder}

    def present(self, digest: str) -> set[int]:
        """Seeds in the store by name alone, without verifying: for estimates."""
        return present(self.root, digest)

    def _known(self, digest: str, keys: Iterable[int], emit: Emit | None = None) -> dict[int, Block]:
        """Blocks by seed; those with one of `keys` are verified: of many seeds, a process may want a few."""
        known = self._blocks.setdefault(digest, {})
        wanted = {key for key in keys if key not in known}  # a difference of sets would look at all that is known
        if not wanted:
            return known
        with readable(self._folder(digest)):
            folders = children(self._folder(digest))
        for folder in folders:
            if folder in self._damaged or wanted.isdisjoint(parse_block(folder.name)):
                continue
            problem, manifest = check_block(folder)
            if problem:
                if not self._writable:
                    self._damaged[folder] = problem
                elif set_aside(self.root, folder) and emit:
                    emit(Note(f"damaged artefact removed, it is made again: {folder} ({problem})"))
                continue
            self.others.met(manifest, emit)
            block = Block(folder, tuple(manifest["seeds"]), bool(manifest["stacked"]))
            known |= dict.fromkeys(block.seeds or (-1,), block)
        return known

    # -- making ---------------------------------------------------------------------------------------------------

    def make_all(
        self,
        requests: Sequence[Request],
        build: Build,
        emit: Emit,
        group: Grouping = one_by_one,
        meanwhile: Meanwhile | None = NO_WORK,
    ) -> Counter[str]:
        """Make what is missing, once for equal requests. Artefacts that another process is making are awaited last.

        The jobs of a group are built by one call of `build` and committed one by one. `meanwhile` does some other work
        before this process waits; without it (None), what others are making is left to them. Raises
        UnderWayElsewhereError when `patience` ends.

        An exception ends its own job only and is recorded in `failures`, except those of ENDS_RUN (core/errors.py),
        which end all jobs; if a whole group raises one, its jobs are made again, each alone. Artefacts that depend on a
        failed one are not made. Returns counts of artefacts, "made" and "reused", one per seed.
        """
        with lease(self.root):
            return self._make_all(requests, build, emit, group, meanwhile)

    def _make_all(
        self, requests: Sequence[Request], build: Build, emit: Emit, group: Grouping, meanwhile: Meanwhile | None
    ) -> Counter[str]:
        counts: Counter[str] = Counter()
        jobs: list[Job] = []
        self.mirror.fetch(requests := merge(requests), self.missing, emit)
        for request in requests:
            seeds = request.seeds if request.spec.seeded else (-1,)
            missing = self.missing(request.spec, request.seeds, emit)
            absent = set(missing)
            stored = tuple(seed for seed in seeds if seed not in absent)
            if stored:
                counts["reused"] += len(stored)
                emit(Job(request.spec, request.spec.seeds(stored), request.arms).finished(True, 0.0))
                self.mirror.push(self.block(request.spec, seed).folder for seed in stored)
            recorded = recorded_blocks(self.root, request.spec.digest) if missing else ()
            jobs += list(split(request, missing_of(request.spec, missing, self.failures), recorded))
        later: list[Job] = []
        groups = deque(group(jobs))
        while groups:
            self._check_stop()
            refused = self._attempt_group(groups.popleft(), build, emit, counts)
            later += refused
            if refused and groups:  # others take the same order: elsewhere in the list it is less crowded
                groups.rotate(-secrets.randbelow(len(groups)))
        idle = Idle(self.patience, self.others, self._check_stop, emit)
        while later and meanwhile is not None:
            self._check_stop()
            asked, later = later[:POLLED], later[POLLED:]
            refused = [left for job in asked for left in self._attempt(job, build, emit, counts)]
            later += refused
            if len(refused) < len(asked) or meanwhile():
                idle.over()
            else:
                idle.pause(later[0])
        return counts

    def _attempt_group(self, jobs: Sequence[Job], build: Build, emit: Emit, counts: Counter[str]) -> list[Job]:
        """Make jobs together; if that takes too much memory, in halves; if it fails otherwise, one by one. Returns
        those that other processes are making."""
        if len(jobs) > self._most_together:
            halves = jobs[: len(jobs) // 2], jobs[len(jobs) // 2 :]
            return [job for half in halves for job in self._attempt_group(half, build, emit, counts)]
        if len(jobs) > 1:
            of_group: Counter[str] = Counter()
            try:
                later = self._make(jobs, build, emit, of_group)
            except ENDS_RUN:
                raise
            except Exception as error:
                halve, reason = out_of_memory(error), str(error)
            else:
                counts.update(of_group)
                return later
            if halve:  # outside of the handler, whose traceback holds the group's memory
                self._most_together = len(jobs) // 2
                emit(Note(f"{len(jobs)} fits take too much memory together: from now on {self._most_together} at most"))
                return self._attempt_group(jobs, build, emit, counts)
            emit(Note(f"{len(jobs)} fits that were computed together are computed one by one: {reason}", "info"))
        later = []
        for job in jobs:
            self._check_stop()
            later += self._attempt(job, build, emit, counts)
        return later

    def _attempt(self, job: Job, build: Build, emit: Emit, counts: Counter[str]) -> list[Job]:
        """Make a job; if some seeds of a batch diverge, the rest is made without them. Returns what is left of it if
        another process has it."""
        while True:
            own: Counter[str] = Counter()
            try:
                later = self._make([job], build, emit, own)
            except ENDS_RUN:
                raise
            except Exception as error:
                failed = self._record(job, error, emit)
                rest = tuple(seed for seed in job.seeds if seed not in failed.seeds)
                if not rest:
                    return []
                job = Job(job.spec, rest, job.arms)
            else:
                counts.update(own)
                return later

    def _make(self, jobs: Sequence[Job], build: Build, emit: Emit, counts: Counter[str]) -> list[Job]:
        """Make jobs together under their locks, and count them. Returns those that other processes are making."""
        later: list[Job] = []
        todo: list[Job] = []
        with contextlib.ExitStack() as locks:
            for job in jobs:
                spec, lock = job.spec, self.others.lock(job, emit)
                if lock is None:
                    later.append(job)
                    continue
                locks.callback(lock.release)
                self.mirror.fetch([Request(spec, job.seeds, job.arms)], self.missing, emit, locked=True)
                missing = self.missing(spec, job.seeds, emit)  # another process may have made them in the meantime
                here = sorted({*(job.seeds or (-1,))}.difference(missing))
                counts["reused"] += len(here)
                self.mirror.push(self.block(spec, seed).folder for seed in here)
                if missing:
                    todo.append(Job(spec, spec.seeds(missing), job.arms))
                    emit(JobStarted(spec.kind, spec.digest, spec.generation, job.arms, todo[-1].seeds))
                else:
                    emit(job.finished(True, 0.0))
            if todo:
                started = time.perf_counter()
                failed = self._commit(todo, build, started)
                for number, job in enumerate(todo):
                    if number in failed:
                        self._record(job, failed[number], emit)
                        continue
                    emit(job.finished(False, time.perf_counter() - started))
                    counts["made"] += len(job.seeds) or 1
        return later

    def _record(self, job: Job, error: Exception, emit: Emit) -> Failure:
        """Record a job's failure."""
        failed, spec = self.failures.add(job, error), job.spec
        what = failed.seeds, failed.message, failed.diverged
        emit(JobFailed(spec.kind, spec.digest, spec.generation, job.arms, *what))
        return failed

    def _commit(self, jobs: Sequence[Job], build: Build, started: float) -> Mapping[int, Exception]:
        """Build in tmp/; then, for each job, flush, write the manifest last, and move into place in one step. Returns
        {position: error} of the jobs of a group that failed."""
        scratches = [self._scratch(job) for job in jobs]
        try:
            with explain_write_errors(self.root, "--store"):
                for scratch in scratches:
                    scratch.mkdir()
                failed = build(jobs, scratches)
                boundary("built")
                for number, (job, scratch) in enumerate(zip(jobs, scratches, strict=True)):
                    if number in failed:
                        remove(scratch)
                    else:
                        self._finish(job, scratch, started, jobs)
                return failed
        except BaseException as error:
            for scratch in scratches:
                remove(scratch)
            ends = not isinstance(error, Exception) or isinstance(error, (*ENDS_RUN, RemadeDifferentlyError))
            if not ends and not any(self.missing(job.spec, job.seeds) for job in jobs):
                return {}  # another machine was quicker, and may have taken the scratch folders away
            if isinstance(error, FileNotFoundError) and str(error.filename or "").startswith(str(self.root)):
                raise StoreError(
                    f"{error.filename}: removed while it was in use, by hand or by a machine that took this process "
                    "for dead; run the same command again"
                ) from error
            raise

    def _scratch(self, job: Job) -> Path:
        return self.root / "tmp" / f"{job.spec.digest[:16]}-{token()}-{secrets.token_hex(4)}"

    def _finish(self, job: Job, scratch: Path, started: float, group: Sequence[Job]) -> None:
        """Commit one artefact that is built, and remove what is left of unfinished work on it."""
        target = self._folder(job.spec.digest) / job.block
        durable = time.perf_counter() - started >= CHEAP_S
        files = {}
        for path in sorted(scratch.iterdir()):
            if durable:
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
            "machine": dict(self.made_on(job)),
            "wall_s": round(time.perf_counter() - started, 3),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        if len(group) > 1:
            manifest["group"] = [f"{member.spec.digest}/{member.block}" for member in group]
        if problem := difference(self.root, job, manifest):
            for path in (scratch, *self._abandoned(job)):  # unfinished work has the same difference
                remove(path)
            raise RemadeDifferentlyError(problem)
        write_manifest(scratch, manifest, durable=durable)
        boundary("manifest")
        target.parent.mkdir(parents=True, exist_ok=True)
        move_into_place(self.root, scratch, target)
        boundary("committed")
        if durable:
            sync(target.parent)
        block = Block(target, job.seeds, job.spec.stacked)
        self._blocks.setdefault(job.spec.digest, {}).update(dict.fromkeys(job.seeds or (-1,), block))
        self.mirror.push([target])
        for path in self._abandoned(job):
            remove(path)
        boundary("cleaned")

    def partial(self, job: Job) -> Path:
        """The folder for checkpoints of a job's unfinished work, of this process alone. That of another process is
        renamed if it is certain that no process has the files open, copied if its owner was on another machine."""
        own = self.root / "partial" / f"{job.spec.digest}-{job.block}@{token()}"
        leftovers = [path for path in self.leftovers(job) if path != own and path.is_dir() and not path.is_symlink()]
        if own.exists() or not leftovers:
            return own
        newest = max(leftovers, key=lambda path: path.stat().st_mtime)
        owner = owner_of(newest.name)
        if is_near(owner) and owner not in living(self.root):
            with contextlib.suppress(FileNotFoundError):  # just taken by another process
                newest.rename(own)
        else:
            with contextlib.suppress(OSError):  # even if only some files were copied: each has its own hash
                shutil.copytree(newest, own)
        return own

    def leftovers(self, job: Job) -> list[Path]:
        """Folders with unfinished work of a job, from any process."""
        stem = f"{job.spec.digest}-{job.block}@"
        return [path for path in children(self.root / "partial") if path.name.startswith(stem)]

    def _abandoned(self, job: Job) -> list[Path]:
        """Unfinished work on a job: of this process, and of those that are gone."""
        leftovers = self.leftovers(job)
        own = [path for path in leftovers if owner_of(path.name) == token()]
        return own + gone(self.root, [path for path in leftovers if path not in own])

    def _folder(self, digest: str) -> Path:
        return object_folder(self.root, digest)
