"""Files that a user names, before they are opened: what is no file is told from what is one without touching it.

A named pipe that is opened waits for its other end without end, and a pointer of git-lfs looks like a small text.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from collapse_sim.core.errors import MissingError
from collapse_sim.core.files import kind_of

POINTER = b"version https://git-lfs"  # how the text begins that git has in place of a large file


def fault(path: Path) -> str:
    """Why a path is no file, in words for a message: "a named pipe, not a file"; "" when it is one, or a link to one.

    Nothing is opened.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "a link to a file that is not there" if path.is_symlink() else "no such file"
    except OSError as error:
        return "a loop of links" if error.errno == errno.ELOOP else error.strerror or str(error)
    except ValueError:
        return "no name of a file"
    return "" if stat.S_ISREG(mode) else f"{kind_of(mode)}, not a file"


def there(path: Path) -> bool:
    """Whether something is there of that name, be it a link that leads nowhere."""
    try:
        return os.path.lexists(path)
    except ValueError:
        return False


def check_pointer(path: Path) -> None:
    """Raises MissingError for a pointer of git-lfs. `path` is a file (`fault`)."""
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise MissingError(
                f"{path}: a pointer of git-lfs, and not the file itself: install git-lfs and run `git lfs pull` in "
                f"{path.parent}, or get the file another way"
            )
