"""Files behind a URL: what is written is read back, and what fails says why without secrets."""

from __future__ import annotations

import errno
import sys
from types import SimpleNamespace

import pytest

from collapse_sim.core import remote
from collapse_sim.core.errors import MissingError, RecipeError, RemoteError
from collapse_sim.core.remote import Remote, masked, masked_command
from tests.mirrors import URL, contents, fragile, hanging, overwrite


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(remote, "PAUSES_S", (0.0, 0.0))


@pytest.fixture
def files():
    with fragile() as kind:
        yield kind


@pytest.fixture(params=["fragile", "file"])
def place(request, files, tmp_path):
    return Remote(URL if request.param == "fragile" else f"file://{tmp_path}/mirror")


def test_what_is_written_is_read_back(place, tmp_path):
    source, moved = tmp_path / "source", []
    source.write_bytes(b"0123456789")
    place.put(source, "a/b/c", moved.append)
    place.replace("a/b/d", b"1")
    place.replace("a/b/d", b"22")
    assert place.names("a/b") == {"c": 10, "d": 2}
    assert place.names("a") == place.names("nothing") == {}
    assert (place.size("a/b/c"), place.size("a/b/x")) == (10, None)
    assert place.read("a/b/c", 10) == b"0123456789"
    assert place.read("a/b/d", 2) == b"22"
    assert sum(moved) == 10
    with pytest.raises(FileNotFoundError):
        place.read("a/b/x", 3)


def test_a_file_is_created_once(place):
    assert place.create("a/b", b"first")
    assert not place.create("a/b", b"second")
    assert place.read("a/b", 5) == b"first"


def test_a_disk_without_hard_links_can_be_a_mirror(tmp_path, monkeypatch):
    """As many mounts and exFAT are."""

    def refuse(source, target):
        raise OSError(errno.EPERM, "Operation not permitted", str(source), None, str(target))

    monkeypatch.setattr(remote.os, "link", refuse)
    place = Remote(f"file://{tmp_path}/mirror")
    assert place.create("a/b", b"first")
    assert not place.create("a/b", b"second")
    assert place.read("a/b", 5) == b"first"
    assert [path.name for path in (tmp_path / "mirror" / "a").iterdir()] == ["b"]


def test_a_file_of_another_size_is_seen(place, monkeypatch):
    place.replace("a", b"0123456789")
    monkeypatch.setattr(remote, "CHUNK", 4)
    assert list(place.chunks("a", 10)) == [b"0123", b"4567", b"89"]
    assert len(place.read("a", 9)) == 10, "one byte more shows that it is longer"
    assert place.read("a", 13) == b"0123456789"
    place.replace("empty", b"")
    assert place.read("empty", 3) == b""


def test_the_probe_leaves_nothing(files):
    Remote(URL).check()
    assert contents() == {}
    assert [operation for operation, _ in files.calls] == ["write", "read", "remove"]


def test_a_probe_that_may_not_be_removed_is_no_error(files):
    def before(operation, path):
        if operation == "remove":
            raise PermissionError("no right to remove")

    files.before = staticmethod(before)
    Remote(URL).check()


def refuse(error, *operations):
    def before(operation, path):
        if operation in operations:
            raise error

    return staticmethod(before)


@pytest.mark.parametrize(
    ("error", "operation", "words"),
    [
        (PermissionError("Access Denied"), "write", "no permission (Access Denied); check the credentials"),
        (PermissionError("Access Denied"), "read", "no permission"),
        (FileNotFoundError("The specified bucket does not exist"), "write", "The specified bucket does not exist"),
        (ConnectionError("unreachable"), "write", "cannot write: ConnectionError: unreachable"),
        (NotImplementedError(), "write", "cannot write: NotImplementedError"),
    ],
)
def test_a_place_that_cannot_be_used_says_why(files, error, operation, words):
    files.before = refuse(error, operation)
    with pytest.raises(RemoteError) as raised:
        Remote(URL).check()
    assert words in str(raised.value)
    assert URL in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is None, "a traceback would show what the message leaves out"


def test_what_does_not_give_back_what_was_written_is_refused(files, monkeypatch):
    monkeypatch.setattr(Remote, "read", lambda self, name, size: b"else")
    with pytest.raises(RemoteError, match="not what is read back"):
        Remote(URL).check()


def test_a_place_that_does_not_answer_is_not_waited_for(files, monkeypatch):
    monkeypatch.setattr(remote, "PROBE_S", 0.1)
    with hanging():
        for ask in (Remote(URL).check, Remote(URL).reach):
            with pytest.raises(RemoteError, match="no answer"):
                ask()


def test_a_transfer_is_tried_three_times(files):
    failures = [ConnectionError("cut off")] * 2

    def before(operation, path):
        if failures:
            raise failures.pop()

    files.before = staticmethod(before)
    Remote(URL).replace("a", b"1")
    assert contents() == {"/bucket/prefix/a": b"1"}
    assert len(files.calls) == 3


def test_a_refusal_is_not_tried_again(files):
    files.before = refuse(PermissionError("Forbidden"), "write")
    with pytest.raises(RemoteError):
        Remote(URL).replace("a", b"1")
    assert len(files.calls) == 1


def test_a_server_that_refuses_to_read_past_the_end_tells_of_a_shorter_file(files, monkeypatch):
    overwrite("/bucket/prefix/a", b"1234")
    monkeypatch.setattr(remote, "CHUNK", 4)
    files.before = staticmethod(lambda operation, path: None)
    cat_file = files.cat_file

    def strict(self, path, start=None, end=None, **kwargs):
        if start and start >= len(contents()[path]):
            raise OSError("InvalidRange")
        return cat_file(self, path, start, end, **kwargs)

    monkeypatch.setattr(files, "cat_file", strict)
    assert Remote(URL).read("a", 8) == b"1234"


def test_uploads_to_s3_are_in_small_pieces_one_after_the_other(tmp_path, monkeypatch):
    """A slow line that several uploads share is not taken for one that hangs."""
    pytest.importorskip("s3fs")
    place, source, given = Remote("s3://bucket/prefix"), tmp_path / "source", []
    monkeypatch.setattr(place, "_files", SimpleNamespace(put_file=lambda *of, **options: given.append(options)))
    with source.open("wb") as file:
        for size in (10, 2**36):
            file.truncate(size)
            place.put(source, "a")
    small, large = given
    assert (small["chunksize"], small["max_concurrency"]) == (remote.PART, 1)
    assert large["chunksize"] * remote.MOST_PARTS > 2**36


def test_an_interrupted_copy_is_no_file(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_bytes(b"0123456789")
    place = Remote(f"file://{tmp_path}/mirror")

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.put(source, "a/b", stop)
    assert place.names("a") == {}
    assert list((tmp_path / "mirror" / "a").iterdir()) == []


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "mirror").write_text("a file")
    place = Remote(f"file://{tmp_path}/mirror")
    for write in (place.replace, place.create):
        with pytest.raises(RemoteError, match="cannot write"):
            write("a/b", b"1")
    assert (place.names("a"), place.size("a/b")) == ({}, None)
    with pytest.raises(FileNotFoundError):
        place.read("a/b", 1)


@pytest.mark.parametrize(
    "url", ["bucket/prefix", "/mnt/mirror", "", "://x", "simplecache::s3://bucket/a", "s3:/bucket"]
)
def test_what_is_no_url_is_refused(url):
    with pytest.raises(RecipeError, match=r"not a URL; write s3://BUCKET/PREFIX"):
        Remote(url)


@pytest.mark.parametrize("url", ["s3://", "file:///", "fragile://"])
def test_a_url_without_a_place_is_refused(url):
    with pytest.raises(RecipeError, match=r"name a (bucket|folder)"):
        Remote(url)


def test_an_unknown_scheme_is_refused():
    with pytest.raises(RecipeError, match=r"unknown scheme s4://; known are s3://"):
        Remote("s4://bucket/prefix")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(MissingError, match=r"Install s3fs to access S3: pip install 'collapse-sim\[s3\]'"):
        Remote("s3://bucket/prefix")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("ftp://me:secret@host/dir", "ftp://***@host/dir"),
        ("ftp://secret@host/dir", "ftp://***@host/dir"),
        ("ftp://me:sec/ret@host/dir", "ftp://***@host/dir"),
        ("ftp://me:sec@ret@host/dir", "ftp://***@host/dir"),
        ("s3://bucket/a?key=me&secret=you", "s3://bucket/a?***"),
        ("cannot open ftp://me:secret@host/dir: refused", "cannot open ftp://***@host/dir: refused"),
        ("'ftp://a:b@c/d' and \"ftp://e:f@g/h\"", "'ftp://***@c/d' and \"ftp://***@g/h\""),
        ("s3://bucket/2026@v1", "s3://bucket/2026@v1"),
        ("no url, me@host", "no url, me@host"),
    ],
)
def test_passwords_are_masked(text, shown):
    assert masked(text) == shown


def test_of_a_command_only_the_options_url_is_masked():
    secret, other = "ftp://me:secret@host", "data.url=https://me:secret@host"
    words = ["run", "a.yaml", "--mirror", secret, "--set", other, f"--mirror={secret}"]
    shown = ["run", "a.yaml", "--mirror", "ftp://***@host", "--set", other, "--mirror=ftp://***@host"]
    assert masked_command(words, "--mirror") == shown


def test_errors_do_not_contain_what_may_be_a_password(files):
    files.before = staticmethod(
        lambda operation, path: (_ for _ in ()).throw(OSError(f"login of me with hush at {url}"))
    )
    url = "fragile://me:hush@host/dir"
    with pytest.raises(RemoteError) as raised:
        Remote(url).check()
    assert "hush" not in str(raised.value)
    assert "fragile://***@host/dir" in str(raised.value)
