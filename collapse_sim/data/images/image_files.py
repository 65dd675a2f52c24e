"""Lists the image files in a folder, following links, and reports what is left out."""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from collapse_sim.core.errors import MissingError
from collapse_sim.core.files import kind_of
from collapse_sim.data.file_cache import FileStats

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")
# Files that are expected next to images; any other file that is left out causes a warning.
COMPANIONS = (".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".xml", ".html", ".yaml", ".yml", ".db", ".ini", ".log")
IGNORED = "__MACOSX"  # a folder of metadata that macOS adds to archives
NAMED = 10  # files that a message names before it counts the rest
MAX_VISITS = 100  # of one folder by different paths: links that branch at every level would take exponentially long


@dataclass(frozen=True)
class Listing:
    """The image files of a folder, by name relative to it, in the order of their names."""

    kind: str  # kind of data, for messages
    path: Path
    names: tuple[str, ...]
    classes: tuple[str, ...]  # subfolders that are classes; () for none
    stamps: FileStats
    left_out: str = ""  # a sentence on what is left out
    level: int = logging.INFO  # log level of that sentence

    def __len__(self) -> int:
        return len(self.names)

    def name(self, number: int) -> str:
        """The name of a file in messages."""
        return self.names[number]

    def identity(self, number: int) -> bytes:
        """What the content hash covers in addition to the content."""
        return self.names[number].encode("utf-8", "surrogateescape")  # names are bytes, and need not be UTF-8

    def content(self, number: int) -> bytes:
        """The bytes of a file. Raises OSError."""
        return (self.path / self.names[number]).read_bytes()

    def labels(self) -> np.ndarray | None:
        """int64 (files,): the index of each file's class; None without classes."""
        if not self.classes:
            return None
        number = {name: i for i, name in enumerate(self.classes)}
        return np.array([number[name.split("/")[0]] for name in self.names], np.int64)


@dataclass
class _Contents:
    """The contents of a folder at all levels, by name relative to it."""

    images: list[tuple[str, os.stat_result]] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    circles: list[str] = field(default_factory=list)  # links to a folder that contains them
    wrong: list[str] = field(default_factory=list)  # entries that should be files but are not, and why
    others: Counter[str] = field(default_factory=Counter)  # numbers of files with other endings, by ending


def list_images(kind: str, folder: Path) -> Listing:
    """All image files at every level below `folder`; hidden files and folders are left out.

    Links to files and folders are followed; a link back to a folder that contains it is left out. Raises MissingError
    when there is no image, for folders that cannot be read, for links whose target is missing, and for pipes, sockets
    and empty folders that are named like an image.
    """
    taken_ns = time.time_ns()
    try:
        contents = _scan(kind, folder)
    except OSError as error:
        raise MissingError(f"{kind}: {error.filename or folder} cannot be read: {error.strerror or error}") from None
    files = sorted(contents.images)
    with_images = {parent for name, _ in files for parent in _parents(name)}
    wrong = [
        *contents.wrong,
        *(f"{name} (a folder without images)" for name in contents.folders if _named_like_image(name, with_images)),
    ]
    if wrong:
        raise MissingError(
            f"{kind}: {len(wrong)} of the entries of {folder} are not the files or folders that they should be: "
            f"restore their targets, or remove them\n  " + "\n  ".join(abbreviated(sorted(wrong)))
        )
    left_out, level = _left_out(contents, with_images)
    if not files:
        raise MissingError(
            f"{kind}: no images in {folder}: needed: files ending in {', '.join(SUFFIXES)}"
            + (f"; {left_out}" if left_out else "")
        )
    top_folders = {name.split("/")[0] if "/" in name else "" for name, _ in files}
    classes = tuple(sorted(top_folders)) if len(top_folders) > 1 and "" not in top_folders else ()
    names = tuple(name for name, _ in files)
    return Listing(kind, folder, names, classes, FileStats.of(files, taken_ns), left_out, level)


def _scan(kind: str, root: Path) -> _Contents:
    """Lists everything. Raises OSError for folders that cannot be listed, MissingError for endless links."""
    contents = _Contents()
    visits: Counter[tuple[int, int]] = Counter()
    status = root.stat()
    pending = [(root, "", frozenset([(status.st_dev, status.st_ino)]))]
    while pending:
        folder, prefix, ancestors = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == IGNORED:
                    continue
                name = prefix + entry.name
                try:
                    status = entry.stat()
                except OSError as error:
                    if not entry.is_symlink() or error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                        raise
                    reason = "which does not exist" if error.errno != errno.ELOOP else "and back to itself"
                    contents.wrong.append(f"{name} (a link to {Path(entry.path).readlink()}, {reason})")
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    _add(contents, name, status)
                    continue
                identity = (status.st_dev, status.st_ino)
                if identity in ancestors:
                    contents.circles.append(name)
                    continue
                visits[identity] += 1
                if visits[identity] > MAX_VISITS:
                    raise MissingError(
                        f"{kind}: links lead to {folder / entry.name} by more than {MAX_VISITS} paths: remove some"
                    )
                contents.folders.append(name)
                pending.append((folder / entry.name, f"{name}/", ancestors | {identity}))
    return contents


def _add(contents: _Contents, name: str, status: os.stat_result) -> None:
    """Add an entry that is not a folder."""
    ending = PurePosixPath(name).suffix.lower()
    if ending not in SUFFIXES:
        contents.others[ending] += 1
    elif stat.S_ISREG(status.st_mode):
        contents.images.append((name, status))
    else:
        contents.wrong.append(f"{name} ({kind_of(status.st_mode)})")


def _parents(name: str) -> Iterable[str]:
    parts = name.split("/")
    return ("/".join(parts[:level]) for level in range(1, len(parts)))


def _named_like_image(folder: str, with_images: set[str]) -> bool:
    """Whether a folder without images is named like an image."""
    return folder not in with_images and PurePosixPath(folder).suffix.lower() in SUFFIXES


def _left_out(contents: _Contents, with_images: set[str]) -> tuple[str, int]:
    """A sentence on what is left out, and its log level."""
    parts, level = [], logging.INFO
    if contents.others:
        count = contents.others.total()
        listed = ", ".join(
            abbreviated([f"{n} {ending or 'without one'}" for ending, n in contents.others.most_common()])
        )
        phrase = "files with other endings are" if count > 1 else "file with another ending is"
        parts.append(f"{count} {phrase} left out ({listed})")
        if contents.others.keys() - set(COMPANIONS):
            level = logging.WARNING
    empty = sorted(
        name
        for name in contents.folders
        if name not in with_images and ("/" not in name or name.rpartition("/")[0] in with_images)
    )
    for names, one, several in (
        (empty, "folder has no image", "folders have no image"),
        (sorted(contents.circles), "link leads back to a folder it is in", "links lead back to a folder they are in"),
    ):
        if names:
            parts.append(f"{len(names)} {one if len(names) == 1 else several} ({', '.join(abbreviated(names))})")
            level = logging.WARNING
    stray = sorted(name for name, _ in contents.images if "/" not in name)
    if stray and sum("/" not in name for name in with_images) > 1:
        parts.append(f"there are no labels, since not all images are in subfolders ({', '.join(abbreviated(stray))})")
    return "; ".join(parts), level


def abbreviated(names: Sequence[str]) -> list[str]:
    """The first `NAMED` names, and how many more there are."""
    return [*names[:NAMED], *([f"and {len(names) - NAMED} more"] if len(names) > NAMED else [])]
