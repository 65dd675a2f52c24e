"""Moves of whole artefacts."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from collapse_sim.core.errors import StoreError
from collapse_sim.store.placing import move_into_place, set_aside, try_out
from collapse_sim.store.store import Store


def test_what_is_set_aside_is_gone_in_one_step(tmp_path: Path) -> None:
    Store(tmp_path)
    folder = tmp_path / "objects" / "x"
    folder.mkdir()
    (folder / "file").touch()
    assert set_aside(tmp_path, folder)
    assert not folder.exists()
    assert not list((tmp_path / "tmp").iterdir())
    assert not set_aside(tmp_path, folder)


def test_a_damaged_artefact_in_the_way_is_replaced(tmp_path: Path) -> None:
    Store(tmp_path)
    target, scratch = tmp_path / "objects" / "x", tmp_path / "tmp" / "new"
    for folder, text in ((target, "old"), (scratch, "new")):
        folder.mkdir()
        (folder / "file").write_text(text)
    move_into_place(tmp_path, scratch, target)
    assert (target / "file").read_text() == "new"


def test_a_file_system_that_can_do_all_is_left_as_it_was(tmp_path: Path) -> None:
    Store(tmp_path)
    try_out(tmp_path)
    assert [list((tmp_path / name).iterdir()) for name in ("tmp", "locks")] == [[], []]


@pytest.mark.parametrize(
    ("what", "number", "message"),
    [
        ("rename", errno.ENOSYS, r"cannot move a folder in one step \(Function not implemented\)"),
        ("rename", errno.EPERM, r"cannot move a folder in one step \(Operation not permitted\)"),
        ("rename", 0, "does not move a folder with what is in it"),
        ("open", 0, "makes a file that is there already, so that nothing can be locked"),
        ("flock", errno.ENOLCK, "the file system refuses locks"),
        ("rename", errno.ENOSPC, "No space left on device"),
    ],
)
def test_a_file_system_that_cannot_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, number: int, message: str
) -> None:
    """As folders of object stores: some have no renames of folders, some no exclusive creation, many no locks."""
    opened = os.open

    def rename(old: object, new: object) -> None:
        if number:
            raise OSError(number, os.strerror(number), str(old), None, str(new))

    def open_(path: str, flags: int, mode: int = 0o777, **options: int) -> int:
        return opened(path, flags & ~os.O_EXCL, mode, **options)

    def flock(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    if what == "flock":
        monkeypatch.setattr(fcntl, "flock", flock)
    else:
        monkeypatch.setattr(os, what, rename if what == "rename" else open_)
    with pytest.raises(StoreError, match=message) as refused:
        Store(tmp_path / "store")
    assert "--store" in str(refused.value) or number == errno.ENOSPC
    monkeypatch.undo()
    assert [list((tmp_path / "store" / name).iterdir()) for name in ("tmp", "objects")] == [[], []]
