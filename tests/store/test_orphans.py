"""Whose files may be removed: those of dead processes, and of machines that have been silent for ten minutes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from collapse_sim.store.lease import token
from collapse_sim.store.orphans import gone, parse_partial, remove_orphans
from collapse_sim.store.store import Store
from tests.store.processes import OTHER, elsewhere

DEAD = token()[:8] + "0" * 16  # of this kernel and process namespace, and without a mark


def left(root: Path, owner: str, age_s: float, room: str = "tmp") -> Path:
    """A folder with a file that a process left; both were last written so long ago."""
    folder = root / room / f"0123456789abcdef-{owner}-01234567"
    folder.mkdir()
    (folder / "file").write_text("x")
    for path in (folder / "file", folder):
        os.utime(path, (time.time() - age_s, time.time() - age_s))
    return folder


@pytest.mark.parametrize(
    ("owner", "age_s", "goes"),
    [(DEAD, 0.0, True), (DEAD, 700.0, True), (OTHER, 0.0, False), (OTHER, 590.0, False), (OTHER, 610.0, True)],
)
def test_a_dead_process_of_this_kernel_leaves_nothing_and_another_machine_has_time(
    tmp_path: Path, owner: str, age_s: float, goes: bool
) -> None:
    """Though it has no mark: folders of a network file system may be seen in another order than they are made."""
    Store(tmp_path)
    folder = left(tmp_path, owner, age_s)
    assert gone(tmp_path, [folder]) == ([folder] if goes else [])
    remove_orphans(tmp_path)
    assert folder.exists() != goes
    assert list((tmp_path / "tmp").iterdir()) == ([] if goes else [folder])


def test_a_file_that_is_being_written_keeps_its_old_folder(tmp_path: Path) -> None:
    Store(tmp_path)
    folder = left(tmp_path, OTHER, 5000.0)
    os.utime(folder / "file")
    remove_orphans(tmp_path)
    assert folder.exists()


@pytest.mark.parametrize("ahead_s", [-86400.0, 86400.0])
def test_clocks_of_machines_may_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: float) -> None:
    """Ages are differences of times of the file system, which a machine whose clock is a day off sees, too."""
    Store(tmp_path)
    at_work, silent = left(tmp_path, OTHER, 700.0), left(tmp_path, OTHER[:-1] + "1", 700.0)
    elsewhere(tmp_path, 30.0)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead_s)
    Store(tmp_path)
    assert at_work.exists()
    assert not silent.exists()
    assert len(list((tmp_path / "locks").iterdir())) == 1, "the mark"


def test_a_mark_that_is_alive_protects_old_files(tmp_path: Path) -> None:
    """A fit may take hours without writing into its folder."""
    Store(tmp_path)
    folder = left(tmp_path, OTHER, 50_000.0)
    elsewhere(tmp_path, 30.0)
    Store(tmp_path)
    assert folder.exists()
    elsewhere(tmp_path, 700.0)
    Store(tmp_path)
    assert not folder.exists()
    assert list((tmp_path / "locks").iterdir()) == []


@pytest.mark.parametrize(("owner", "age_s"), [(DEAD, 0.0), (OTHER, 700.0)])
def test_locks_that_nobody_holds_go(tmp_path: Path, owner: str, age_s: float) -> None:
    """Also if only the second of their two files is left."""
    Store(tmp_path)
    for name in ("a.lock", "a.lock.held", "b.lock.held"):
        path = tmp_path / "locks" / name
        path.write_text(f"{owner} 99999999 1 word")
        os.utime(path, (time.time() - age_s, time.time() - age_s))
    Store(tmp_path)
    assert list((tmp_path / "locks").iterdir()) == []


def test_the_name_of_unfinished_work() -> None:
    digest = "a" * 64
    assert parse_partial(f"{digest}-s0-2@{OTHER}") == (digest, (0, 1, 2))
    assert parse_partial(f"{digest}-s0-2@mine") == ("", ())
    assert parse_partial("notes") == ("", ())
