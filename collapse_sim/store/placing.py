"""Moves of whole artefacts in a store, each in one step: into place, and out of it."""

from __future__ import annotations

import errno
import secrets
from pathlib import Path

from collapse_sim.core.files import explain_write_errors, remove
from collapse_sim.store.blocks import check_block
from collapse_sim.store.lease import token


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
