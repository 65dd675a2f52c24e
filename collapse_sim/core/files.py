"""Small file operations that survive a kill at any moment."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from collapse_sim.core.errors import StoreError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ELOOP, errno.ENXIO)
FAILING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENODEV)
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)
STALE_S = 600.0
KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def kind_of(mode: int) -> str:
    """What a path is by its st_mode, in words, if it is not a regular file."""
    return KINDS.get(stat.S_IFMT(mode), "something else")


class NotAFileError(OSError):
    """The path is not a regular file."""


def read_bytes(path: Path) -> bytes:
    """A regular file's content. Never blocks on a named pipe. Raises OSError, NotAFileError for other than a file."""
    with _opened(path) as file:
        return file.read()


def _opened(path: Path) -> BufferedReader:
    """A regular file, open for reading. Never blocks on a named pipe."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        require_file(path, os.fstat(handle).st_mode)
        return open(handle, "rb")  # noqa: PTH123  # closes the handle in the end
    except BaseException:
        os.close(handle)
        raise


def require_file(path: Path, mode: int) -> None:
    """Raise NotAFileError unless `mode` (st_mode) is a regular file's."""
    if not stat.S_ISREG(mode):
        raise NotAFileError(errno.EINVAL, f"it is {kind_of(mode)}, not a file")


def remove(path: Path) -> None:
    """Remove whatever is at `path`, as far as possible."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes, hex. Raises OSError, NotAFileError for other than a file."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk.

    Some network and shared file systems refuse to flush a folder; they store its entries without it.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC or not path.is_dir():
            raise
    finally:
        os.close(handle)


def write_atomic(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write `content` to `path` in one step: a reader sees the old or the new content, never a part."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with explain_write_errors(path):
            with scratch.open("xb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            scratch.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # its folder may be a file, gone, or not searchable
            scratch.unlink(missing_ok=True)
        raise


def sweep_scratch(folder: Path) -> None:
    """Remove what killed calls of `write_atomic` left in a folder; no call takes as long as STALE_S."""
    with contextlib.suppress(OSError):
        left = list(folder.glob(".*.tmp"))
        now = clock(folder) if left else 0.0
        for path in left:
            with contextlib.suppress(FileNotFoundError):
                if now - path.lstat().st_mtime > STALE_S:
                    remove(path)


def clock(folder: Path) -> float:
    """Now, in seconds since 1970, by the clock that dates the files of a folder: on a network, that of its server.

    That is the time of a fresh file, which is removed. Raises OSError.
    """
    path = folder / f".clock-{secrets.token_hex(4)}.tmp"
    try:
        path.touch()
        return path.stat().st_mtime
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def check_place(path: Path, option: str) -> Path:
    """The nearest existing folder: `path` itself, or one above it. Nothing is created.

    Raises StoreError, naming the command-line option that chooses another place, when the folder is not writable.
    """
    place = path.absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise StoreError(f"{path}: cannot write: {place} is a file, not a folder; choose another place with {option}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise StoreError(f"{path}: cannot write: no permission for {place}; choose another place with {option}")
    return place


@contextlib.contextmanager
def explain_write_errors(path: Path, option: str = "") -> Iterator[None]:
    """Turn an OSError caused by the disk or its permissions, on work below `path`, into a StoreError with advice.

    `option` is the command-line option that chooses another place, if there is one.
    """
    try:
        yield
    except OSError as error:
        elsewhere = "choose another place" + (f" with {option}" if option else "")
        reason = error.strerror or str(error)
        if error.errno in FULL:
            hint = (
                "free some space (`collapse-sim cache gc` lists what no run refers to), then run the same command again"
            )
        elif error.errno in DENIED:
            hint = elsewhere
        elif error.errno in IN_THE_WAY or isinstance(error, NotAFileError):
            blocking = error.filename2 or error.filename
            reason += f": {blocking}" if blocking and str(blocking) != str(path) else ""
            hint = f"remove what is there, or {elsewhere}"
        elif error.errno in FAILING:
            hint = f"check the disk, or {elsewhere}"
        else:
            raise
        raise StoreError(f"{path}: cannot write: {reason}; finished work is kept: {hint}") from error


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn an OSError on reading `path` into a StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: cannot read: {error.strerror or error}") from error


def children(folder: Path) -> list[Path]:
    """The entries of a folder, sorted; [] when there is no such folder."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
