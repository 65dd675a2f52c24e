"""A store beside other processes and machines, on read-only disks, and with other things than files in it."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
from filelock import Timeout

from collapse_sim.analysis.results import read_results
from collapse_sim.core.errors import StoreError
from collapse_sim.core.files import read_bytes, sync, write_atomic
from collapse_sim.engine import checkpoint
from collapse_sim.store import lease as leases
from collapse_sim.store import sealed, store
from collapse_sim.store.cache import entries, open_store
from collapse_sim.store.lease import lease, living, owner_of, token
from collapse_sim.store.locks import Lock, sweep
from collapse_sim.store.rowfile import RowFile, RowWriter
from collapse_sim.store.run_writer import RunWriter
from collapse_sim.store.store import Store
from tests.conftest import TINY, Sandbox

FORK = multiprocessing.get_context("fork")
SMALL = TINY.replace("generations: 2", "generations: 1").replace("seeds: [0, 1]", "seeds: [0]")
OTHER = "0" * 24  # a token of another kernel


def put(kind: str, path: Path) -> None:
    """Something else in place of a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        (path / "x").mkdir(parents=True)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as end:
            here = Path.cwd()
            os.chdir(path.parent)
            end.bind(path.name)
            os.chdir(here)
    else:
        path.symlink_to({"dangling": "gone", "loop": path.name}[kind])


KINDS = ["pipe", "folder", "socket", "dangling", "loop"]


@pytest.mark.parametrize("kind", KINDS)
def test_reading_never_waits(tmp_path, kind):
    put(kind, tmp_path / "x")
    with pytest.raises(OSError):  # noqa: PT011
        read_bytes(tmp_path / "x")
    with pytest.raises((OSError, ValueError)):
        RowFile(tmp_path / "x")


def test_a_lock_keeps_others_out_and_leaves_no_file(tmp_path):
    """Four processes count up one number, a hundred times each."""
    number, path = tmp_path / "number", tmp_path / "n.lock"
    number.write_text("0")

    def count() -> None:
        for _ in range(100):
            lock = Lock(path)
            lock.acquire()
            number.write_text(str(int(number.read_text()) + 1))
            lock.release()

    others = [FORK.Process(target=count) for _ in range(4)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert number.read_text() == "400"
    assert [found.name for found in tmp_path.iterdir()] == ["number"]


def test_a_held_lock_is_not_swept(tmp_path):
    lock = Lock(tmp_path / "a.lock")
    lock.acquire()
    sweep(lock.path)
    assert lock.path.exists()
    with pytest.raises(Timeout):
        Lock(lock.path).acquire(timeout=0)
    lock.release()
    lock.path.touch()
    sweep(lock.path)
    assert not lock.path.exists()


@pytest.mark.parametrize("kind", ["folder", "socket", "dangling", "loop"])
def test_something_else_in_place_of_a_lock(tmp_path, kind):
    put(kind, tmp_path / "a.lock")
    with pytest.raises(StoreError, match=r"a\.lock: cannot write"):
        Lock(tmp_path / "a.lock").acquire(timeout=0)


def test_a_lease_tells_who_is_at_work(tmp_path):
    (tmp_path / "locks").mkdir()
    assert living(tmp_path) == {}
    with lease(tmp_path), lease(tmp_path):
        assert living(tmp_path) == {token(): f"process {os.getpid()} on {leases.host()}"}
        heard, told = FORK.Queue(), FORK.Queue()

        def ask() -> None:
            heard.put((token(), living(tmp_path)))
            with lease(tmp_path):
                told.put(len(living(tmp_path)))
                os._exit(1)  # as a kill would end it

        other = FORK.Process(target=ask)
        other.start()
        theirs, seen = heard.get(timeout=30)
        other.join()
        assert theirs != token()
        assert list(seen) == [token()]
        assert list(living(tmp_path)) == [token()], "the other one is gone, though its mark lies there"
        assert len(list((tmp_path / "locks").iterdir())) == 2
    assert living(tmp_path) == {}


def test_a_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_S", 0.01)
    (tmp_path / "locks").mkdir()
    with lease(tmp_path):
        (mark,) = (tmp_path / "locks").iterdir()
        os.utime(mark, (1.0, 1.0))
        deadline = time.monotonic() + 30
        while mark.stat().st_mtime == 1.0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert mark.stat().st_mtime > 1.0


def elsewhere(root: Path, age_s: float) -> None:
    """A mark of a process on another machine, or in another container, that was heard of so long ago.

    Its host and process id are ours: containers share both.
    """
    mark = root / "locks" / f"active-{OTHER}-{leases.host()}-{os.getpid()}.lock"
    mark.touch()
    os.utime(mark, (time.time() - age_s, time.time() - age_s))


@pytest.mark.parametrize("age_s", [30.0, 900.0])
def test_scratch_of_a_live_run_elsewhere_is_left_alone(sandbox, age_s):
    sandbox.run(SMALL)
    root = sandbox.root / ".store"
    scratch, stranger = root / "tmp" / f"0123456789abcdef-{OTHER}-01234567", root / "tmp" / "mine"
    scratch.mkdir()
    stranger.mkdir()
    elsewhere(root, age_s)
    Store(root)
    assert scratch.exists() == (age_s < 600)
    assert stranger.exists()
    assert any((root / "locks").iterdir()) == (age_s < 600)


def stopped_fit(sandbox, monkeypatch, saves: int = 3) -> Path:
    """The folder with the checkpoints of a fit that was killed."""

    class Killed(BaseException):
        pass

    seen = []

    def boundary(name: str) -> None:
        seen.append(name)
        if seen.count("checkpoint") == saves:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "boundary", boundary)
        with pytest.raises(Killed):
            sandbox.run(SMALL, checkpoint_s=0.0)
    (partial,) = (sandbox.root / ".store" / "partial").iterdir()
    return partial


def restored(monkeypatch) -> list[int]:
    """Steps at which fits are continued from now on."""
    steps: list[int] = []
    original = checkpoint._apply
    monkeypatch.setattr(
        checkpoint, "_apply", lambda run, state, t: (steps.append(state["step"]), original(run, state, t))
    )
    return steps


@pytest.mark.parametrize("age_s", [30.0, 900.0])
def test_unfinished_work_of_another_machine_is_continued(sandbox, monkeypatch, age_s):
    """From a copy, as long as the other one may still be at it."""
    partial = stopped_fit(sandbox, monkeypatch)
    theirs = partial.rename(partial.with_name(partial.name.replace(owner_of(partial.name), OTHER)))
    elsewhere(sandbox.root / ".store", age_s)
    steps = restored(monkeypatch)
    sandbox.run(SMALL)
    assert steps == [3]
    assert theirs.exists() == (age_s < 600)


def spoil_json(json_file: Path, tensors: Path) -> None:
    json_file.write_text(json_file.read_text().replace('"step": 3', '"step": 1'))


def spoil_scaler(json_file: Path, tensors: Path) -> None:
    json_file.write_text(json_file.read_text().replace('"loss_steps": ', '"loss_steps": 1'))


def another_fits(json_file: Path, tensors: Path) -> None:
    content = sealed.read(json_file)
    json_file.write_text(sealed.text({**content, "fit": "0" * 64 + "-s0"}))


def nested(json_file: Path, tensors: Path) -> None:
    json_file.write_text("[" * 100000)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, dict[str, str]]:
    """The artefacts of a run that nothing happened to."""
    other = Sandbox(tmp_path_factory.mktemp("undisturbed"))
    other.run(SMALL)
    return other.artefacts()


def pipe_for_json(json_file: Path, tensors: Path) -> None:
    put("pipe", json_file)


def pipe_for_tensors(json_file: Path, tensors: Path) -> None:
    put("pipe", tensors)


def folder_for_both(json_file: Path, tensors: Path) -> None:
    put("folder", json_file)
    put("folder", tensors)


@pytest.mark.parametrize(
    "spoil",
    [spoil_json, spoil_scaler, another_fits, nested, pipe_for_json, pipe_for_tensors, folder_for_both],
)
def test_a_damaged_checkpoint_is_passed_over(sandbox, monkeypatch, undisturbed, spoil):
    """The one before it counts, and the result is what it would have been."""
    partial = stopped_fit(sandbox, monkeypatch)
    spoil(partial / "step-000000003.json", partial / "step-000000003.safetensors")
    steps = restored(monkeypatch)
    sandbox.run(SMALL)
    assert steps == [2]
    assert sandbox.artefacts() == undisturbed
    assert not list((sandbox.root / ".store" / "partial").iterdir())


def test_a_damaged_header_of_rows_is_written_anew(tmp_path):
    """Of the right length, so that nothing but its bytes shows it."""
    path, columns = tmp_path / "rows", {"x": ((2,), "float32"), "label": ((), "int64")}
    RowWriter(path, 3, columns).close()
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"label"', b'"lacel"'))
    RowWriter(path, 3, columns).close()
    assert path.read_bytes() == content
    for damaged in (content.replace(b"[3,2]", b"[3,1]"), b"\xff" * 8 + content[8:], content[:5], b""):
        path.write_bytes(damaged)
        with pytest.raises((ValueError, KeyError)):
            RowFile(path)


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


def test_run_json_takes_what_every_process_adds(tmp_path):
    """Eight processes claim one folder at the same time, each for an arm of its own: none is lost."""
    gate = FORK.Barrier(8)

    def claim(name: str) -> None:
        folder = RunWriter(tmp_path / "run")
        settings = {"arms": {name: {}}, "seeds": [0], "generations": 1, "metrics": ["m"]}
        content = {
            "name": "x", "generations": 1, "seeds": [0], "arms": [name], "metrics": {"m": {"settings": {}}},
            "theory": {}, "claims": [], "reference": None, "baseline": name, "fingerprint": "f", "settings": settings,
        }  # fmt: skip
        gate.wait()
        folder.claim(content, tmp_path / ".store")
        for k in range(5):
            folder.record_scores(k, name, [0], {"m": [1.0]}, "f", "s", {})

    names = [f"arm{i}" for i in range(8)]
    others = [FORK.Process(target=claim, args=(name,)) for name in names]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert sorted(sealed.read(tmp_path / "run" / "run.json")["arms"]) == names
    lines = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    assert sorted((line["arm"], line["generation"]) for line in lines) == [
        (name, k) for name in names for k in range(5)
    ]
    scores = sealed.read(tmp_path / "run" / "recorded.json")["scores"]
    assert scores == {name: {"m": {"s0": [[0, 4]]}} for name in names}
    assert not (tmp_path / "run" / ".lock").exists()


@pytest.mark.parametrize("number", ["EINVAL", "ENOTSUP"])
def test_a_folder_that_cannot_be_flushed_is_passed_over(tmp_path, monkeypatch, number):
    def refuse(handle: int) -> None:
        raise OSError(getattr(errno, number), number)

    monkeypatch.setattr(os, "fsync", refuse)
    sync(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=number):
        sync(tmp_path / "file")


@pytest.mark.parametrize("number", ["ENOLCK", "EOPNOTSUPP"])
def test_locks_that_are_refused(sandbox, monkeypatch, number):
    def refuse(handle: int, operation: int) -> None:
        raise OSError(getattr(errno, number), number)

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreError, match=r"the file system refuses locks .* on a local disk, with --store and --out"):
        sandbox.run(SMALL)


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
        digests = {path.parts[-3]: path.parent for path in root.glob("objects/*/*/*/manifest.json")}
        for digest in digests:
            assert reading._known(digest)
        assert living(root) == {}
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before


def test_scratch_of_killed_writers_goes(sandbox):
    sandbox.run(SMALL)
    folders = (sandbox.root / "run", sandbox.root / ".store" / "runs")
    left = [folder / name for folder in folders for name in (".x.json.0.tmp", ".y.json.1.tmp", "mine.tmp")]
    for path in left:
        path.write_text("")
        os.utime(path, (1.0, 1.0) if path.name != ".y.json.1.tmp" else None)
    sandbox.run(SMALL)
    assert [path.exists() for path in left] == [False, True, True] * 2


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    """Their scratch files have names of their own, whatever their process ids."""
    texts = [str(i) * 100000 for i in range(4)]

    def write(text: str) -> None:
        for _ in range(50):
            write_atomic(tmp_path / "x", text, durable=False)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "x").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_run_directory_whose_name_is_not_utf8(sandbox):
    name = os.fsdecode(b"caf\xe9")
    toy = """
    data: {use: gaussian, rows: 20}
    model: gaussian
    generations: 1
    seeds: 2
    arms: {replace: {data: replace}}
    metrics: [variance_ratio]
    """
    assert sandbox.run(toy, name)["made"] > 0
    assert sandbox.run(toy, name)["made"] == 0
    (entry, *_) = entries(open_store(sandbox.root / ".store"))
    assert [Path(run).name for run in entry.runs] == [name]
    assert read_results(sandbox.root / name).problems == ()
