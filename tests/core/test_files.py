"""Small file operations: one step or none, no waiting on a pipe, and messages that say what to do."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from collapse_sim.core import files
from collapse_sim.core.errors import StoreError
from collapse_sim.core.files import (
    children,
    clock,
    explain_write_errors,
    file_hash,
    read_bytes,
    remove,
    sweep_scratch,
    sync,
    write_atomic,
)
from tests.odd_files import KINDS, put


@pytest.mark.parametrize("number", ["EINVAL", "ENOTSUP"])
def test_a_folder_that_cannot_be_flushed_is_passed_over(tmp_path, monkeypatch, number):
    def refuse(handle: int) -> None:
        raise OSError(getattr(errno, number), number)

    monkeypatch.setattr(os, "fsync", refuse)
    sync(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=number):
        sync(tmp_path / "file")


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


def test_files_is_where_places_are_checked(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert files.check_place(tmp_path / "a" / "b", "--out") == tmp_path
    assert files.check_place(tmp_path, "--out") == tmp_path
    with pytest.raises(files.StoreError, match=r"link is a file, not a folder; choose another place with --out"):
        files.check_place(tmp_path / "link" / "x", "--out")


@pytest.mark.parametrize("kind", KINDS)
def test_reading_never_waits(tmp_path: Path, kind: str) -> None:
    put(kind, tmp_path / "x")
    with pytest.raises(OSError):  # noqa: PT011
        read_bytes(tmp_path / "x")
    with pytest.raises(OSError):  # noqa: PT011
        file_hash(tmp_path / "x")


@pytest.mark.parametrize("kind", [*KINDS, "file"])
def test_whatever_is_there_is_removed(tmp_path: Path, kind: str) -> None:
    """A link is removed, and not what it leads to."""
    path, kept = tmp_path / "x", tmp_path / "kept"
    kept.mkdir()
    if kind == "file":
        path.write_text("x")
    else:
        put(kind, path)
    remove(path)
    remove(path)  # nothing there
    (tmp_path / "link").symlink_to(kept)
    remove(tmp_path / "link")
    assert children(tmp_path) == [kept]


def test_hashes_are_those_of_sha256sum(tmp_path: Path) -> None:
    for content in (b"", b"abc", bytes(range(256)) * 5000):
        (tmp_path / "x").write_bytes(content)
        assert file_hash(tmp_path / "x") == hashlib.sha256(content).hexdigest()
        assert read_bytes(tmp_path / "x") == content


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_atomic(tmp_path / "x", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"x: cannot write: No space left on device; .*free some space"):
        write_atomic(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "old"
    assert children(tmp_path) == [tmp_path / "x"]
    with pytest.raises(StoreError, match=r"y: cannot write: Not a directory"):  # and no error of the clean-up instead
        write_atomic(tmp_path / "x" / "y", "new")


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        ("ENOSPC", "free some space"),
        ("EDQUOT", "free some space"),
        ("EACCES", "choose another place with --out"),
        ("EROFS", "choose another place with --out"),
        ("ENOTDIR", "remove what is there, or choose another place with --out"),
        ("ELOOP", "remove what is there, or choose another place with --out"),
        ("EIO", "check the disk, or choose another place with --out"),
        ("ESTALE", "check the disk, or choose another place with --out"),
    ],
)
def test_errors_of_a_disk_come_with_advice(number: str, advice: str) -> None:
    code = getattr(errno, number)
    with pytest.raises(StoreError) as caught, explain_write_errors(Path("a/b"), "--out"):
        raise OSError(code, os.strerror(code))
    assert str(caught.value).startswith(f"a/b: cannot write: {os.strerror(code)}; finished work is kept: ")
    assert str(caught.value).endswith(advice) or "free some space" in str(caught.value)
    assert advice in str(caught.value)


def test_what_is_in_the_way_is_named_and_other_errors_pass() -> None:
    with (
        pytest.raises(StoreError, match=r"run: cannot write: File exists: run/pictures; "),
        explain_write_errors(Path("run")),
    ):
        raise FileExistsError(errno.EEXIST, "File exists", "run/pictures")
    for error in (OSError(errno.EBADF, "Bad file descriptor"), ValueError("odd"), FileNotFoundError(errno.ENOENT, "x")):
        with pytest.raises(type(error)) as caught, explain_write_errors(Path("run")):
            raise error
        assert caught.value is error


def test_only_old_scratch_of_ours_is_swept(tmp_path: Path) -> None:
    names = (".x.0123abcd.tmp", ".y.tmp", "mine.tmp", ".hidden", ".z.tmp.json")
    for name in names:
        (tmp_path / name).touch()
    sweep_scratch(tmp_path)
    assert len(children(tmp_path)) == len(names)  # all are new
    for name in names:
        os.utime(tmp_path / name, (1.0, 1.0))
    sweep_scratch(tmp_path)
    assert {path.name for path in children(tmp_path)} == {"mine.tmp", ".hidden", ".z.tmp.json"}
    sweep_scratch(tmp_path / "gone")


@pytest.mark.parametrize("ahead_s", [-86400.0, 86400.0])
def test_the_age_of_scratch_is_by_the_clock_of_its_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    """A machine whose clock is a day off removes what is old, and nothing that another one is writing."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead_s)
    (tmp_path / ".new.tmp").touch()
    (tmp_path / ".old.tmp").touch()
    os.utime(tmp_path / ".old.tmp", (real() - 700, real() - 700))
    sweep_scratch(tmp_path)
    assert [path.name for path in children(tmp_path)] == [".new.tmp"]
    assert clock(tmp_path) == pytest.approx(real(), abs=5)
    assert [path.name for path in children(tmp_path)] == [".new.tmp"]
    with pytest.raises(FileNotFoundError):
        clock(tmp_path / "gone")


def test_entries_of_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    (tmp_path / "a").mkdir()
    assert children(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert children(tmp_path / "gone") == children(tmp_path / "b") == children(tmp_path / "b" / "below") == []
