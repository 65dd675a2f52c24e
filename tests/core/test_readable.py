"""Files that a user names are looked at before they are opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from collapse_sim.core.errors import MissingError
from collapse_sim.core.readable import check_pointer, file_problem, path_exists
from tests.odd_files import KINDS, put

SAID = {
    "pipe": "a named pipe, not a file",
    "folder": "a folder, not a file",
    "socket": "a socket, not a file",
    "dangling": "a link to a file that is not there",
    "loop": "a loop of links",
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_called_what_it_is(tmp_path: Path, kind: str) -> None:
    path, link = tmp_path / "x", tmp_path / "link"
    put(kind, path)
    assert file_problem(path) == SAID[kind]
    assert path_exists(path)
    link.symlink_to(path)
    assert file_problem(link) == SAID[kind]


def test_files_and_links_to_them_are_right(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    (tmp_path / "link").symlink_to("x")
    assert file_problem(tmp_path / "x") == file_problem(tmp_path / "link") == ""
    assert file_problem(Path("/dev/null")) == "a device, not a file"


def test_names_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    for name in ("gone", "x/below"):
        assert file_problem(tmp_path / name) == "no such file"
        assert not path_exists(tmp_path / name)
    assert file_problem(Path("a\0b")) == "not a valid file name"
    assert not path_exists(Path("a\0b"))
    assert file_problem(tmp_path / ("n" * 300)) == os.strerror(36)  # too long


def test_pointers_of_git_lfs(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    with pytest.raises(MissingError, match=rf"weights\.bin: a pointer of git-lfs, .*`git lfs pull` in {tmp_path}"):
        check_pointer(path)
    for content in (b"", b"version", b"\x00" * 100, b" version https://git-lfs"):
        path.write_bytes(content)
        check_pointer(path)
