"""A mirror that fails, hangs or is slow ends no run, and has everything once it works again."""

from __future__ import annotations

import time

import pytest

from collapse_sim.core import remote
from collapse_sim.core.errors import InterruptedRunError
from collapse_sim.store import mirroring
from collapse_sim.store.blocks import object_folder
from collapse_sim.store.jobs import Request
from collapse_sim.store.mirroring import push_all
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store
from tests.mirrors import URL, fragile, hanging
from tests.store.hosts import REQUESTS, A, Host


@pytest.fixture(autouse=True)
def files(monkeypatch):
    monkeypatch.setattr(remote, "PAUSES_S", (0.0, 0.0))
    with fragile() as kind:
        yield kind


def test_a_mirror_that_fails_in_the_middle_ends_nothing_and_is_completed_later(tmp_path, files, monkeypatch):
    first = Host(tmp_path / "a")
    first.make(REQUESTS[:1])
    files.fail("write", "read", "ls")
    assert first.make(REQUESTS) == {"reused": 2, "made": 4}
    assert first.result.failed == 4
    (note,) = first.notes
    assert note.startswith("4 artefacts are in the store and not in the mirror (fragile://bucket/prefix: cannot ")
    assert note.endswith(f"to upload them: collapse-sim cache push --store {tmp_path}/a --mirror {URL}")
    files.work()
    result, reasons = push_all(URL, Store(tmp_path / "a", writable=False))
    assert (result.pushed, result.failed, reasons) == (4, 0, [])
    second = Host(tmp_path / "b")
    second.make()
    assert second.built == []
    assert second.files() == first.files()


@pytest.mark.parametrize("there", REQUESTS)
def test_what_the_mirror_has_is_no_failure_whatever_failed_before_it(tmp_path, files, monkeypatch, there):
    Host(tmp_path / "a").make([there])
    left = Host(tmp_path / "a", url=None).make()["made"]
    monkeypatch.setattr(mirroring, "PUSHES", 1)
    monkeypatch.setattr(mirroring, "FAILURES", 1)

    def before(operation: str, path: str) -> None:
        if operation == "write" and "/objects/" in path:
            raise PermissionError("Access Denied")

    files.before = staticmethod(before)
    result, _ = push_all(URL, Store(tmp_path / "a", writable=False))
    assert (result.pushed, result.failed) == (0, left)


def test_what_failed_is_tried_again_at_the_end(tmp_path, files):
    host = Host(tmp_path / "a")
    files.fail("write")
    host.make(finish=False)
    deadline = time.monotonic() + 20
    while len(host.mirror._failed) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    files.work()
    assert host.mirror.finish(host.events.append)[2:] == (6, sum(map(len, host.files().values())) - manifests(host), 0)
    assert host.notes == []


def manifests(host: Host) -> int:
    return sum(len(content) for name, content in host.files().items() if name.endswith("manifest.json"))


def test_a_mirror_that_cannot_be_read_ends_nothing(tmp_path, files):
    Host(tmp_path / "a").make()
    for operation in ("ls", "read"):
        host = Host(tmp_path / operation)
        files.fail(operation)
        assert host.make() == {"made": 6}
        files.work()


def test_a_mirror_that_hangs_is_not_waited_for(tmp_path, files, monkeypatch):
    Host(tmp_path / "a").make()
    monkeypatch.setattr(mirroring, "PATIENCE_S", 0.3)
    host, started = Host(tmp_path / "b"), time.monotonic()
    with hanging():
        assert host.make() == {"made": 6}
        assert time.monotonic() - started < 20
        assert host.result.failed == 6
        assert "the upload was not finished" in host.notes[-1]


def test_a_mirror_that_fails_is_left_alone_and_for_longer_each_time(tmp_path, files, monkeypatch):
    host = Host(tmp_path / "a")
    files.fail("ls")
    now = [1000.0]
    monkeypatch.setattr(mirroring.time, "monotonic", lambda: now[0])

    def asked() -> int:
        files.calls.clear()
        host.mirror.fetch([Request(Spec("fit", 0, {"n": now[0], "i": i}), (0,), ()) for i in range(20)], absent, print)
        return len({path for _, path in files.calls})

    assert asked() >= mirroring.FAILURES
    assert asked() == 0
    now[0] += mirroring.AWAY_S + 1
    assert asked() > 0
    now[0] += mirroring.AWAY_S + 1
    assert asked() == 0, "the second time it is left alone for twice as long"
    now[0] += mirroring.AWAY_S + 1
    assert asked() > 0
    files.work()
    now[0] += 10 * mirroring.AWAY_S
    assert asked() == 20
    now[0] += 1
    files.fail("ls")
    assert asked() >= mirroring.FAILURES
    now[0] += mirroring.AWAY_S + 1
    assert asked() > 0, "after a success it is left alone for the shortest time again"


def absent(spec, seeds, emit):
    return tuple(seeds)


def test_a_stop_is_heard_while_the_mirror_is_slow(tmp_path, files, monkeypatch):
    Host(tmp_path / "a").make()
    wanted: list[int] = []
    host = Host(tmp_path / "b", check_stop=lambda: raise_if(wanted))
    monkeypatch.setattr(mirroring, "GRACE_S", 0.2)
    started = time.monotonic()
    with hanging(lambda: wanted.append(1)):
        with pytest.raises(InterruptedRunError):
            host.make()
        host.mirror.push([object_folder(tmp_path / "a", A.digest) / "s0"])
        result = host.mirror.finish(host.events.append)
    assert time.monotonic() - started < 20
    assert result.failed == 1
    assert "not finished within the time after a stop" in host.notes[-1]


def raise_if(wanted: list[int]) -> None:
    if wanted:
        raise InterruptedRunError("interrupted")


def test_a_mirror_that_hangs_is_waited_for_once_before_pruning(tmp_path, monkeypatch):
    monkeypatch.setattr(mirroring, "PATIENCE_S", 1.0)
    host = Host(tmp_path / "a")
    with hanging():
        host.mirror.push([object_folder(tmp_path / "a", A.digest) / "s0"])
        assert not host.mirror.settled()
        started = time.monotonic()
        assert not host.mirror.settled()
        assert time.monotonic() - started < 0.5, "it is left alone"
