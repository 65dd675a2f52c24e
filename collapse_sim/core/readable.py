"""Checks of files that a user names, before they are opened: what is not a regular file is recognised without opening.

Opening a named pipe blocks until its other end is opened, and a git-lfs pointer looks like a small text file.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from collapse_sim.core.errors import MissingError
from collapse_sim.core.files import kind_of

POINTER = b"version https://git-lfs"  # start of the text that git-lfs stores in place of a large file


def file_problem(path: Path) -> str:
    """Why a path is not a file, in words for a message: "a named pipe, not a file"; "" for a file or a link to one.

    Nothing is opened.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "a link to a file that is not there" if path.is_symlink() else "no such file"
    except OSError as error:
        return "a loop of links" if error.errno == errno.ELOOP else error.strerror or str(error)
    except ValueError:
        return "not a valid file name"
    return "" if stat.S_ISREG(mode) else f"{kind_of(mode)}, not a file"


def path_exists(path: Path) -> bool:
    """Whether anything exists at a path, even a broken link."""
    try:
        return os.path.lexists(path)
    except ValueError:
        return False


def check_pointer(path: Path) -> None:
    """Raises MissingError for a git-lfs pointer. `path` must be a file (see `fault`)."""
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise MissingError(
                f"{path}: a pointer of git-lfs, and not the file itself: install git-lfs and run `git lfs pull` in "
                f"{path.parent}, or get the file another way"
            )
