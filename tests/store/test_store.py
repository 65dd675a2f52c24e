"""Jobs that are built together: claimed, computed by one call, committed each by itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from collapse_sim.core.errors import DivergedError, InterruptedRunError, StoreError
from collapse_sim.core.events import JobFailed, Note, Waiting
from collapse_sim.store import lease, machine_lock, orphans, sealed, store
from collapse_sim.store.blocks import check_block, parse_block
from collapse_sim.store.jobs import Job, Request
from collapse_sim.store.lease import living, token
from collapse_sim.store.locks import Lock
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store
from tests.conftest import SMALL
from tests.odd_files import put
from tests.store.processes import FORK, OTHER, become_machine, elsewhere


def request(name: str, seeds: tuple[int, ...] = (0, 1)) -> Request:
    return Request(Spec("fit", 0, {"name": name}), seeds, (name,))


def pairs(jobs: Sequence[Job]) -> list[Sequence[Job]]:
    return [jobs[i : i + 2] for i in range(0, len(jobs), 2)]


class Builder:
    """Writes a file per job; the groups that it was asked for, and jobs that fail."""

    def __init__(self, *failing: tuple[str, int], error: type[BaseException] = ValueError) -> None:
        self.groups: list[list[tuple[str, int]]] = []
        self._failing, self._error = failing, error

    def __call__(self, jobs: Sequence[Job], folders: Sequence[Path]) -> dict[int, Exception]:
        names = [(str(job.spec.description["name"]), job.seeds[0]) for job in jobs]
        self.groups.append(names)
        for name, folder in zip(names, folders, strict=True):
            if name in self._failing:
                raise self._error(f"{name} fails")
            (folder / "file").write_text(repr(name))
        return {}


@pytest.fixture
def events() -> list[Any]:
    return []


def contents(store: Store, requested: Request) -> dict[int, str]:
    stored = [seed for seed in requested.seeds if store.has(requested.spec, seed)]
    return {seed: store.block(requested.spec, seed).file("file").read_text() for seed in stored}


def test_a_group_is_one_call_and_its_members_are_artefacts_of_their_own(tmp_path, events):
    store, build = Store(tmp_path), Builder()
    requests = [request("a"), request("b", (0,))]
    counts = store.make_all(requests, build, events.append, pairs)
    assert build.groups == [[("a", 0), ("a", 1)], [("b", 0)]]
    assert counts["made"] == 3
    assert contents(store, requests[0]) == {0: "('a', 0)", 1: "('a', 1)"}
    manifests = [
        json.loads((store.block(requests[0].spec, seed).folder / "manifest.json").read_text()) for seed in (0, 1)
    ]
    digest = requests[0].spec.digest
    assert [manifest["group"] for manifest in manifests] == [[f"{digest}/s0", f"{digest}/s1"]] * 2
    assert "group" not in json.loads(store.block(requests[1].spec, 0).file("manifest.json").read_text())
    assert store.make_all(requests, build, events.append, pairs) == {"reused": 3}


def test_one_that_fails_does_not_end_the_others_of_its_group(tmp_path, events):
    store, build = Store(tmp_path), Builder(("a", 1))
    wanted = request("a", (0, 1))
    counts = store.make_all([wanted], build, events.append, pairs)
    assert build.groups == [[("a", 0), ("a", 1)], [("a", 0)], [("a", 1)]]
    assert counts["made"] == 1
    assert contents(store, wanted) == {0: "('a', 0)"}
    assert [event.seeds for event in events if isinstance(event, JobFailed)] == [(1,)]
    assert any(isinstance(event, Note) and "one by one" in event.message for event in events)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_one_that_reports_its_failure_leaves_the_others_as_they_are(tmp_path, events):
    store, whole = Store(tmp_path), Builder()

    def build(jobs: Sequence[Job], folders: Sequence[Path]) -> dict[int, Exception]:
        whole(jobs, folders)
        return {1: DivergedError("it diverged", (1,))}

    wanted = request("a", (0, 1))
    counts = store.make_all([wanted], build, events.append, pairs)
    assert whole.groups == [[("a", 0), ("a", 1)]]
    assert counts["made"] == 1
    assert contents(store, wanted) == {0: "('a', 0)"}
    assert [event.seeds for event in events if isinstance(event, JobFailed) and event.diverged] == [(1,)]
    assert [failure.message for failure in store.failures.diverged()] == ["it diverged"]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert store.make_all([wanted], build, events.append, pairs) == {"reused": 1}, "a failure is not tried again"


def test_a_requested_stop_ends_a_group_without_a_second_attempt(tmp_path, events):
    store, build = Store(tmp_path), Builder(("a", 1), error=InterruptedRunError)
    with pytest.raises(InterruptedRunError):
        store.make_all([request("a")], build, events.append, pairs)
    assert build.groups == [[("a", 0), ("a", 1)]]


def test_a_member_that_another_process_is_making_is_left_to_it(tmp_path, events):
    """The others are made at once; it is awaited last."""
    store, build = Store(tmp_path), Builder()
    wanted = request("a", (0, 1, 2))
    lock = Lock(tmp_path / "locks" / f"{wanted.spec.digest}-s1.lock")
    lock.acquire(timeout=0)

    def emit(event: object) -> None:
        events.append(event)
        if sum(isinstance(event, Waiting) for event in events) == 2:
            lock.release()

    counts = store.make_all([wanted], build, emit, lambda jobs: [jobs])
    assert build.groups == [[("a", 0), ("a", 2)], [("a", 1)]]
    assert counts["made"] == 3


def test_only_the_seeds_that_are_wanted_are_verified(tmp_path, events, monkeypatch):
    """One of a thousand tasks, each with a seed of its own, reads no artefact of the others'."""
    Store(tmp_path).make_all([request("a", tuple(range(20)))], Builder(), events.append)
    checked: list[str] = []
    monkeypatch.setattr(store, "check_block", lambda folder: (checked.append(folder.name), check_block(folder))[1])
    own = Store(tmp_path)
    wanted = request("a", (7, 20))
    assert own.missing(wanted.spec, wanted.seeds) == (20,)
    assert own.make_all([wanted], Builder(), events.append) == {"reused": 1, "made": 1}
    assert own.block(wanted.spec, 3).seeds == (3,)
    assert checked == ["s7", "s3"], "each once"


@pytest.mark.parametrize("age_s", [30.0, 900.0])
def test_scratch_of_a_live_run_elsewhere_is_left_alone(sandbox, age_s):
    sandbox.run(SMALL)
    root = sandbox.root / ".store"
    scratch, stranger = root / "tmp" / f"0123456789abcdef-{OTHER}-01234567", root / "tmp" / "mine"
    scratch.mkdir()
    os.utime(scratch, (time.time() - age_s, time.time() - age_s))
    stranger.mkdir()
    elsewhere(root, age_s)
    Store(root)
    assert scratch.exists() == (age_s < 600)
    assert stranger.exists()
    assert any((root / "locks").iterdir()) == (age_s < 600)


@pytest.mark.parametrize("whole", [True, False])
def test_an_artefact_that_another_machine_has_just_made(sandbox, monkeypatch, whole):
    """Is kept if it is whole, and replaced if not; no error either way."""
    sandbox.run(SMALL)
    other = type(sandbox)(sandbox.root / "other")
    other.root.mkdir()
    root, met = other.root / ".store", []

    def boundary(name: str) -> None:
        if name == "manifest" and not met:
            scratch = max((root / "tmp").iterdir(), key=lambda path: path.stat().st_mtime)
            manifest = sealed.read(scratch / "manifest.json")
            target = root / "objects" / manifest["digest"][:2] / manifest["digest"] / "all"
            shutil.copytree(sandbox.root / target.relative_to(other.root), target)
            if not whole:
                file = next(path for path in target.iterdir() if path.suffix == ".safetensors")
                file.write_bytes(file.read_bytes()[:-1] + b"x")
            met.append((target, (target / "manifest.json").stat().st_ino))

    monkeypatch.setattr(store, "boundary", boundary)
    other.run(SMALL)
    assert other.artefacts() == sandbox.artefacts()
    ((target, number),) = met
    assert ((target / "manifest.json").stat().st_ino == number) == whole
    assert not list((root / "tmp").iterdir())


def test_scratch_that_another_machine_took_away(sandbox, monkeypatch):
    root = sandbox.root / ".store"

    def boundary(name: str) -> None:
        if name == "manifest":
            for path in (root / "tmp").iterdir():
                shutil.rmtree(path)

    monkeypatch.setattr(store, "boundary", boundary)
    with pytest.raises(StoreError, match="removed while it was in use"):
        sandbox.run(SMALL)


@pytest.mark.parametrize("kind", ["pipe", "loop", "file"])
def test_something_else_in_place_of_an_artefact(sandbox, kind):
    """And of its manifest and of its files: it is made again."""
    sandbox.run(SMALL)
    before = sandbox.artefacts()
    (block,) = {path.parent for path in (sandbox.root / ".store").glob("objects/*/*/all/manifest.json")}
    for path in (block, block / "manifest.json", block / "real.safetensors"):
        if kind == "file":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            path.write_text("x")
        else:
            put(kind, path)
        assert sandbox.run(SMALL)["made"] == 1
        assert sandbox.artefacts() == before


def test_a_reader_writes_nothing(sandbox, monkeypatch):
    """Of a store on a read-only disk all can be read, damage too; orphans and marks are left for a writer."""
    sandbox.run(SMALL)
    root = sandbox.root / ".store"
    (root / "tmp" / f"0123456789abcdef-{token()[:8]}{'0' * 16}-01234567").mkdir()
    for name in ("locks", "partial"):
        (root / name).rmdir()
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    with monkeypatch.context() as patch:
        for name in ("mkdir", "unlink", "rename", "replace", "rmdir", "symlink"):
            patch.setattr(os, name, lambda *a, **o: pytest.fail("a reader changes the store"))
        reading = Store(root, writable=False)
        for path in root.glob("objects/*/*/*/manifest.json"):
            assert reading._known(path.parts[-3], parse_block(path.parts[-2]))
        assert living(root) == {}
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize("whole", [True, False])
def test_work_that_another_machine_has_finished_meanwhile_is_adopted(tmp_path, events, whole):
    """Though it took this process for dead and removed its files, which ends the work on them with an error."""
    wanted, other = request("a", (0,)), Store(tmp_path / "other")
    other.make_all([wanted], Builder(), events.append)
    store = Store(tmp_path / "here")
    theirs = other.block(wanted.spec, 0).folder
    target = store.root / theirs.relative_to(other.root)

    def build(jobs: Sequence[Job], folders: Sequence[Path]) -> dict[int, Exception]:
        shutil.copytree(theirs, target)
        if not whole:
            (target / "file").write_text("spoiled")
        shutil.rmtree(folders[0])
        (folders[0] / "file").write_text("mine")
        return {}

    if whole:
        assert store.make_all([wanted], build, events.append)["made"] == 1
        manifests = [each.block(wanted.spec, 0).file("manifest.json").read_bytes() for each in (store, other)]
        assert manifests[0] == manifests[1]
        assert not any(isinstance(event, JobFailed) for event in events)
    else:
        with pytest.raises(StoreError, match="removed while it was in use"):
            store.make_all([wanted], build, events.append)
        assert not target.exists(), "what is damaged is nobody's"
    assert [list((store.root / room).iterdir()) for room in ("tmp", "locks")] == [[], []]


def test_a_commit_that_finds_its_target_there_adopts_it(tmp_path, events, monkeypatch):
    """Two machines hold one lock, since one had been stopped; the other is quicker by a moment."""
    wanted, other = request("a", (0,)), Store(tmp_path / "other")
    other.make_all([wanted], Builder(), events.append)
    here, theirs = Store(tmp_path / "here"), other.block(wanted.spec, 0).folder
    target = here.root / theirs.relative_to(other.root)

    def boundary(name: str) -> None:
        if name == "manifest":
            shutil.copytree(theirs, target)

    monkeypatch.setattr(store, "boundary", boundary)
    before = (theirs / "manifest.json").read_bytes()
    assert here.make_all([wanted], Builder(), events.append)["made"] == 1
    assert (target / "manifest.json").read_bytes() == before
    assert contents(here, wanted) == {0: "('a', 0)"}
    assert not any(isinstance(event, JobFailed) for event in events)
    assert [list((here.root / room).iterdir()) for room in ("tmp", "locks")] == [[], []]


@pytest.mark.slow
def test_a_machine_that_is_stopped_beyond_its_lease_and_woken_does_no_damage(tmp_path, monkeypatch):
    """Four of them on one store. One stops in the middle of its work; the others take its lock over and make the
    artefact; then its files are removed as a dead one's. Woken, it finds the artefact and goes on."""
    for place, name, seconds in (
        (machine_lock, "EXPIRED_S", 1.0), (machine_lock, "BEAT_S", 0.1), (lease, "BEAT_S", 0.1), (lease, "GONE_S", 1.0),
        (orphans, "GONE_S", 1.0), (machine_lock, "GONE_S", 1.0),
    ):  # fmt: skip
        monkeypatch.setattr(place, name, seconds)
    root, wanted = tmp_path / "store", request("a", (0, 1))
    Store(root)
    (receiver, sender), results = FORK.Pipe(duplex=False), FORK.Queue()

    def work(name: str) -> None:
        become_machine(name * 8)
        whole = Builder()

        def build(jobs: Sequence[Job], folders: Sequence[Path]) -> dict[int, Exception]:
            if name == "a" and jobs[0].seeds == (0,):
                sender.send(True)
                os.kill(os.getpid(), signal.SIGSTOP)
            return whole(jobs, folders)

        own = Store(root)
        own.make_all([wanted], build, lambda event: None)
        results.put((name, contents(own, wanted)))

    def start(name: str) -> Any:
        process = FORK.Process(target=work, args=(name,))
        process.start()
        return process

    stopped = start("a")
    assert receiver.poll(60)
    (scratch,) = (root / "tmp").iterdir()
    others = [start(name) for name in "bcd"]
    for process in others:
        process.join(60)
        assert process.exitcode == 0
    time.sleep(1.1)
    Store(root)
    assert not scratch.exists()
    artefact = Store(root, writable=False).block(wanted.spec, 0).file("manifest.json")
    before = artefact.read_bytes()
    os.kill(stopped.pid, signal.SIGCONT)
    stopped.join(60)
    assert stopped.exitcode == 0
    assert artefact.read_bytes() == before
    assert dict(results.get() for _ in range(4)) == {name: {0: "('a', 0)", 1: "('a', 1)"} for name in "abcd"}
    assert len(list(root.glob("objects/*/*/*"))) == 2
    assert [list((root / room).iterdir()) for room in ("tmp", "partial", "locks")] == [[], [], []]
