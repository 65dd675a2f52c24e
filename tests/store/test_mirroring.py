"""Stores with a mirror in common: what one host has made, no other makes."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections import Counter

import pytest

from collapse_sim.core import remote
from collapse_sim.core.errors import RemoteError
from collapse_sim.core.remote import Remote
from collapse_sim.store import mirroring
from collapse_sim.store.blocks import object_folder
from collapse_sim.store.jobs import Job, Request
from collapse_sim.store.machine_lock import locked
from collapse_sim.store.mirror import Unmirrored
from collapse_sim.store.mirror_files import file_name, listed, manifest_name
from collapse_sim.store.mirroring import _chosen, available, open_mirror, push_all
from collapse_sim.store.spec import Spec
from collapse_sim.store.store import Store
from tests.mirrors import URL, contents, fragile, overwrite
from tests.store.hosts import JOBS, REQUESTS, STACK, A, B, Host


@pytest.fixture(autouse=True)
def files(monkeypatch):
    monkeypatch.setattr(remote, "PAUSES_S", (0.0, 0.0))
    with fragile() as kind:
        yield kind


@pytest.mark.parametrize("url", [URL, "file"])
def test_a_second_host_makes_nothing_and_has_the_same_bytes(tmp_path, url):
    url = f"file://{tmp_path}/mirror" if url == "file" else url
    first, second = Host(tmp_path / "a", url, "1"), Host(tmp_path / "b", url, "2")
    assert first.make() == {"made": 6}
    assert set(first.built) == JOBS
    assert second.make() == {"reused": 6}
    assert second.built == []
    assert second.files() == first.files()
    size = sum(len(content) for name, content in first.files().items() if not name.endswith("manifest.json"))
    assert first.result == (0, 0, 6, size, 0)
    assert second.result == (6, size, 0, 0, 0)
    assert first.notes == second.notes == []


def test_what_was_made_without_the_mirror_is_pushed_later(tmp_path):
    Host(tmp_path / "a", None).make()
    again = Host(tmp_path / "a")
    assert again.make() == {"reused": 6}
    assert again.result.pushed == 6
    other = Host(tmp_path / "b")
    other.make()
    assert other.built == []


def test_a_finished_store_asks_once_per_key_and_sends_nothing(tmp_path, files):
    Host(tmp_path / "a").make()
    again = Host(tmp_path / "a")
    files.calls.clear()
    again.make()
    assert {operation for operation, _ in files.calls} == {"ls"}
    assert again.result == (0, 0, 0, 0, 0)


def test_only_what_is_missing_is_fetched_and_only_what_is_asked_for(tmp_path):
    Host(tmp_path / "a").make()
    other = Host(tmp_path / "b")
    assert other.make([Request(A, (1, 5), ("arm",))]) == {"reused": 1, "made": 1}
    assert other.built == [(A.digest, "s5")]
    assert other.result[::2] == (1, 1, 0)


def test_what_another_host_pushes_during_a_stage_is_fetched_before_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(mirroring, "FRESH_S", 0.0)
    second = Host(tmp_path / "b")
    build = second._build

    def slow(jobs, folders):
        if not second.built:
            Host(tmp_path / "a").make([Request(A, (1,), ("arm",))])
        return build(jobs, folders)

    second._build = slow
    assert second.make([Request(A, (0, 1), ("arm",))]) == {"made": 1, "reused": 1}
    assert second.built == [(A.digest, "s0")]


def test_a_damaged_artefact_is_refused_with_a_warning_made_again_and_replaced(tmp_path):
    first = Host(tmp_path / "a", content="1")
    first.make()
    path = next(path for path, content in contents().items() if content.endswith(b"s1 1"))
    overwrite(path, b"damage")
    second = Host(tmp_path / "b", content="2")
    assert second.make() == {"reused": 5, "made": 1}
    assert second.built == [(A.digest, "s1")]
    (note,) = second.notes
    assert note == (
        f"fit {A.digest[:12]}/s1 of the mirror is not used: weights.safetensors has 6 bytes instead of "
        f"{len(A.digest) + 5}; it is made again, and uploaded in its place"
    )
    third = Host(tmp_path / "c")
    third.make()
    assert third.built == third.notes == []
    assert third.files() == second.files()


def test_of_two_hosts_with_other_bytes_the_first_wins_and_none_is_mixed(tmp_path, files):
    """The second could not read when it began, so it has made everything again."""
    first, second, third = (Host(tmp_path / name, content=name) for name in "abc")
    first.make(REQUESTS[:1])
    files.fail("ls", "read")
    assert second.make(finish=False) == {"made": 6}
    files.work()
    assert second.mirror.finish(second.events.append).failed == 0
    assert third.make() == {"reused": 6}
    own = {host.content: {name for name, content in third.files().items() if content == host.files().get(name)}
           for host in (first, second)}  # fmt: skip
    assert {name.split("/")[-3] for name in own["a"]} == {A.digest}
    assert {name.split("/")[-3] for name in own["b"]} >= {B.digest, STACK.digest}
    assert own["a"] | own["b"] == third.files().keys()
    assert {name for name in own["b"] if A.digest in name and not name.endswith("report.json")} == set()


def test_what_another_host_was_quicker_with_does_not_count_as_pushed(tmp_path):
    first, second = Host(tmp_path / "a"), Host(tmp_path / "b")
    second.mirror.fetch(REQUESTS, second.store.missing, second.events.append)
    first.make()
    assert second.make() == {"made": 6}
    assert (first.result.pushed, second.result.pushed, second.result.failed) == (6, 0, 0)


def test_what_another_process_has_the_lock_of_is_left_to_it(tmp_path):
    Host(tmp_path / "a").make()
    host = Host(tmp_path / "b")
    name = Job(A, (0,), ()).lock_name
    with locked(tmp_path / "b" / "locks" / f"{name}.lock"):
        host.mirror.fetch(REQUESTS, host.store.missing, host.events.append)
        assert host.store.missing(A, (0, 1)) == (0,)
    host.make()
    assert host.built == []


def test_uploads_are_waited_for_before_anything_is_pruned(tmp_path, files):
    host = Host(tmp_path / "a")
    go = threading.Event()
    files.before = staticmethod(lambda operation, path: go.wait(60))
    threading.Timer(0.2, go.set).start()
    host.make(finish=False)
    assert host.mirror.settled()
    assert {len(listed(Remote(URL), spec.digest)) for spec in (B, STACK)} == {1}
    files.fail("write")
    host.make([Request(A, (8,), ("arm",))], finish=False)
    assert not host.mirror.settled()
    files.work()
    assert host.mirror.settled(), "what failed is tried again"


def test_what_another_process_has_made_in_the_meantime_is_uploaded_too(tmp_path):
    """It may have no mirror, and this process may prune."""
    host, other = Host(tmp_path / "a"), Host(tmp_path / "a", None)
    plain = host.store.others.lock

    def lock(job, emit):
        other.make()
        return plain(job, emit)

    host.store.others.lock = lock
    assert host.make(finish=False) == {"reused": 6}
    assert host.mirror.settled()
    assert host.mirror.finish(host.events.append).pushed == 6


def test_what_is_damaged_after_it_was_fetched_is_replaced(tmp_path):
    Host(tmp_path / "a").make()
    host = Host(tmp_path / "b")
    host.make(finish=False)
    folder = object_folder(tmp_path / "b", A.digest) / "s0"
    content = (folder / "weights.safetensors").read_bytes()
    overwrite(f"/bucket/prefix/{file_name(hashlib.sha256(content).hexdigest())}", b"x" * len(content))
    shutil.rmtree(folder)
    host.store.drop(folder)
    host.make()
    assert host.notes[0].endswith("it is made again, and uploaded in its place")
    assert Host(tmp_path / "c").make() == {"reused": 6}


def test_an_artefact_that_was_removed_before_its_upload_is_no_failure(tmp_path):
    host = Host(tmp_path / "a")
    host.mirror.push([tmp_path / "a" / "objects" / "00" / ("0" * 64) / "s0"])
    assert host.mirror.finish(host.events.append).failed == 0


def test_a_damaged_artefact_of_the_store_is_named_and_not_uploaded(tmp_path):
    Host(tmp_path / "a", None).make()
    (object_folder(tmp_path / "a", B.digest) / "all" / "report.json").write_text("{ }")
    result, reasons = push_all(URL, Store(tmp_path / "a", writable=False))
    assert (result.pushed, result.failed) == (5, 1)
    assert "report.json: damaged" in reasons[0]
    assert listed(Remote(URL), B.digest) == {}


def test_a_refused_artefact_whose_bytes_differ_from_the_record_stays_in_the_mirror(tmp_path):
    from collapse_sim.store.placing import set_aside
    from collapse_sim.store.pruning import write_record

    Host(tmp_path / "a", content="1").make()
    second = Host(tmp_path / "b", None, content="2")
    second.make(REQUESTS[:1])
    folder = object_folder(tmp_path / "b", A.digest) / "s0"
    write_record(tmp_path / "b", folder)
    set_aside(tmp_path / "b", folder)
    before = contents()
    again = Host(tmp_path / "b", content="2")
    assert again.make(REQUESTS[:1]) == {"made": 1, "reused": 1}
    assert "it was pruned, and is not the same" in again.notes[0]
    assert again.notes[0].endswith("it is made again")
    assert contents().items() >= before.items()


def test_a_mirror_that_cannot_be_used_is_an_error_before_any_work(tmp_path, files):
    files.fail("write", error=PermissionError("Access Denied"))
    with pytest.raises(
        RemoteError, match=r"--mirror fragile://bucket/prefix: cannot write: no permission .*nothing was"
    ):
        open_mirror(URL, tmp_path)
    with pytest.raises(RemoteError, match="--mirror"):
        push_all(URL, Store(tmp_path))
    files.fail("ls", error=PermissionError("Access Denied"))
    with pytest.raises(RemoteError, match=r"--mirror .* no permission"):
        available(URL, [A], tmp_path)


def test_no_url_is_no_mirror(tmp_path):
    assert isinstance(open_mirror(None, tmp_path), Unmirrored)
    assert available(None, [A], tmp_path) is None


def test_what_a_mirror_has_is_known_without_fetching_it(tmp_path, files):
    Host(tmp_path / "a").make()
    files.calls.clear()
    seeds = available(URL, [A, B, STACK, Spec("fit", 5, {})], tmp_path / "b")
    assert {digest: own for digest, own in seeds.items() if own} == {
        A.digest: {0, 1}, B.digest: {-1}, STACK.digest: {0, 1, 2}
    }  # fmt: skip
    assert {operation for operation, _ in files.calls} == {"ls"}
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("blocks", "seeds", "local", "chosen"),
    [
        (["s0", "s1"], (0,), (), ["s0"]),
        (["all"], (-1,), (), ["all"]),
        (["s0-9"], (3,), (), ["s0-9"]),
        (["s0-9"], (3,), (0,), []),
        (["s0-4", "s0-9", "s5-9"], tuple(range(10)), (), ["s0-9"]),
        (["s0-4", "s5-9"], tuple(range(10)), (), ["s0-4", "s5-9"]),
        (["s0-4", "s4-9"], (4, 5), (), ["s4-9"]),
        ([], (0,), (), []),
    ],
)
def test_blocks_are_chosen_so_that_no_seed_is_there_twice(blocks, seeds, local, chosen):
    assert _chosen(blocks, seeds, local) == chosen


def test_a_stacked_block_is_fetched_as_it_is_and_completed(tmp_path):
    Host(tmp_path / "a").make([Request(STACK, (0, 1, 2), ())])
    host = Host(tmp_path / "b")
    assert host.make([Request(STACK, (1, 2, 3, 4), ())]) == {"reused": 2, "made": 2}
    assert host.built == [(STACK.digest, "s3-4")]


def test_names_in_the_mirror_are_these(tmp_path):
    """A layout that other versions of the program can read."""
    Host(tmp_path / "a").make(REQUESTS[1:2])
    files = {path for path in contents() if path.startswith("/bucket/prefix/files/")}
    manifest = f"/bucket/prefix/objects/{B.digest[:2]}/{B.digest}/all.json"
    assert manifest == f"/bucket/prefix/{manifest_name(B.digest, 'all')}"
    assert contents().keys() == {manifest} | files
    assert {path.rpartition("/prefix/")[2] for path in files} == {file_name(path[-64:]) for path in files}


def test_many_small_artefacts_are_transferred_side_by_side(tmp_path, files):
    """Over a network, most of the time of small files is waiting."""
    running, most, guard = Counter(), Counter(), threading.Lock()

    def before(operation: str, path: str) -> None:
        with guard:
            running[operation] += 1
            most[operation] = max(most[operation], running[operation])
        time.sleep(0.01)
        with guard:
            running[operation] -= 1

    files.before = staticmethod(before)
    request = [Request(A, tuple(range(30)), ("arm",))]
    Host(tmp_path / "a").make(request)
    other = Host(tmp_path / "b")
    other.make(request)
    assert other.built == []
    assert 2 < most["write"] <= mirroring.PUSHES
    assert 4 < most["read"] <= mirroring.FETCHES
