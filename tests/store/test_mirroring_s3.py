"""Stores with a mirror in common on an S3 server."""

from __future__ import annotations

import hashlib
import time

import pytest

from collapse_sim.core import remote
from collapse_sim.core.errors import RemoteError
from collapse_sim.core.remote import Remote
from collapse_sim.store import mirroring
from collapse_sim.store.mirror_files import file_name
from collapse_sim.store.mirroring import available, open_mirror
from collapse_sim.store.spec import Spec
from tests.store.hosts import REQUESTS, A, B, Host
from tests.store.s3_server import s3_server


@pytest.fixture
def bucket(monkeypatch):
    """An S3 server of its own, as moto has it, and an empty bucket."""
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.make_bucket("bucket")
        yield server


@pytest.mark.slow
def test_on_s3_a_second_host_makes_nothing_and_has_the_same_bytes(tmp_path, bucket):
    url = "s3://bucket/a prefix/of mine"
    first, second, third = (Host(tmp_path / name, url, content=name) for name in "abc")
    assert first.make() == {"made": 6}
    assert second.make() == {"reused": 6}
    assert second.files() == first.files()
    assert (first.notes, second.notes) == ([], [])
    assert available(url, [B], tmp_path) == {B.digest: {-1}}
    names = bucket.names("bucket")
    assert len(names) == 4 + len({content for path, content in first.files().items() if "manifest" not in path})
    (damaged, *_) = (name for name in names if name.endswith(file_name_of(first, A, "s1")))
    for content, words in ((b"", "has 0 bytes"), (b"x" * 1000, "has more than"), (None, "is missing")):
        bucket.overwrite("bucket", damaged, content)
        other = Host(tmp_path / words.replace(" ", ""), url, content="a")
        assert other.make() == {"reused": 5, "made": 1}
        assert words in other.notes[0]
    assert third.make() == {"reused": 6}
    same = {name: content for name, content in third.files().items() if not name.endswith("s1/manifest.json")}
    assert same.items() <= first.files().items()


def file_name_of(host: Host, spec: Spec, block: str) -> str:
    content = host.files()[f"{spec.digest[:2]}/{spec.digest}/{block}/weights.safetensors"]
    return file_name(hashlib.sha256(content).hexdigest())


@pytest.mark.slow
def test_on_s3_large_files_come_in_pieces_and_the_first_manifest_stays(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(remote, "CHUNK", 5 * 2**20)
    place, source, moved = Remote("s3://bucket/prefix"), tmp_path / "large", []
    source.write_bytes(bytes(range(256)) * 2**16)
    place.put(source, "files/large", moved.append)
    assert (sum(moved), max(moved)) == (2**24, remote.PART), "progress is seen"
    assert len(list(place.chunks("files/large", 2**24))) == 4
    assert place.read("files/large", 2**24) == source.read_bytes()
    assert len(place.read("files/large", 2**24 - 1)) == 2**24
    assert place.read("files/large", 2**25) == source.read_bytes()
    source.write_bytes(b"")
    place.put(source, "files/empty")
    assert (place.size("files/empty"), place.read("files/empty", 0), place.read("files/empty", 3)) == (0, b"", b"")
    assert place.create("manifest", b"first")
    assert not place.create("manifest", b"second")
    assert place.read("manifest", 5) == b"first"
    assert (place.size("manifest"), place.size("nothing"), place.names("none")) == (5, None, {})


@pytest.mark.slow
def test_on_s3_what_cannot_be_used_is_said_at_once(tmp_path, bucket, monkeypatch):
    with pytest.raises(RemoteError, match=r"s3://nothing/a: cannot write: The specified bucket does not exist"):
        open_mirror("s3://nothing/a", tmp_path)
    bucket.ask_for_rights()
    with pytest.raises(RemoteError, match=r"s3://bucket/a: cannot write: no permission .*check the credentials"):
        open_mirror("s3://bucket/a", tmp_path)
    with pytest.raises(RemoteError, match=r"--mirror s3://bucket/a: cannot list: no permission"):
        available("s3://bucket/a", [A], tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(RemoteError, match=r"s3://bucket/a: (no answer within|cannot write: .*Could not connect)"):
        open_mirror("s3://bucket/a", tmp_path)
    assert time.monotonic() - started < remote.PROBE_S + 5


@pytest.mark.slow
def test_a_run_goes_on_without_its_s3_server(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(mirroring, "PATIENCE_S", 20.0)  # botocore tries several times by itself
    host = Host(tmp_path / "a", "s3://bucket/a")
    host.make(REQUESTS[:1])
    bucket.stop()
    assert host.make() == {"reused": 2, "made": 4}
    assert host.result.failed == 4
