"""Small file operations: one step or none, no waiting on a pipe, and messages that say what to do."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from collapse_sim.core import files
from collapse_sim.core.files import sync, write_atomic


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
