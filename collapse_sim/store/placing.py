"""Moves of whole artefacts in a store, each in one step: into place, and out of it."""

from __future__ import annotations

import errno
import secrets
from pathlib import Path

from collapse_sim.core.errors import StoreError
from collapse_sim.core.files import FULL, explain_write_errors, remove
from collapse_sim.store.blocks import check_block
from collapse_sim.store.lease import token
from collapse_sim.store.machine_lock import MachineLock


def try_out(root: Path) -> None:
    """Do once what artefacts need: lock, make a file unless there is one, and move a folder in one step.

    Folders of object stores often cannot do that. Raises StoreError, and OSError of a disk that is full or the like.
    """
    name = f"probe-{token()}-{secrets.token_hex(4)}"
    probe, moved = root / "tmp" / name, root / "tmp" / f"{name}-moved"
    lock = MachineLock(root / "locks" / f"{name}.lock")
    lock.acquire()
    lock.release()
    problem = "does not move a folder with what is in it"
    try:
        probe.mkdir()
        (probe / "file").touch(exist_ok=False)
        try:
            (probe / "file").touch(exist_ok=False)
            problem = "makes a file that is there already, so that nothing can be locked"
        except FileExistsError:
            probe.rename(moved)
            if (moved / "file").is_file() and not probe.exists():
                return
    except OSError as error:
        if error.filename2 is None or error.errno in FULL:
            raise
        problem = f"cannot move a folder in one step ({error.strerror})"
    finally:
        remove(probe)
        remove(moved)
    raise StoreError(f"{root}: the file system {problem}: keep the store on another one, with --store")


def set_aside(root: Path, folder: Path, why: str = "damaged") -> bool:
    """Move an artefact away in one step, and remove it. Returns whether it still existed."""
    trash = root / "tmp" / f"{why}-{token()}-{secrets.token_hex(4)}"
    try:
        with explain_write_errors(root, "--store"):
            folder.rename(trash)
    except FileNotFoundError:
        return False  # another process has just set it aside
    remove(trash)
    return True


def move_into_place(root: Path, scratch: Path, target: Path) -> None:
    """Move a finished artefact into place. One that another machine has just put there stays, if it is intact."""
    for _ in range(3):
        try:
            scratch.replace(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        else:
            return
        problem, _manifest = check_block(target)
        if not problem:
            remove(scratch)
            return
        set_aside(root, target)
    scratch.replace(target)
