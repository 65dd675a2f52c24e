"""The image files in a folder: which there are, links followed, and what is left out."""

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
from collapse_sim.data.remember import FileStats

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")
# What lies beside images and nobody takes for one; whatever else is left out is worth a warning.
COMPANIONS = (".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".xml", ".html", ".yaml", ".yml", ".db", ".ini", ".log")
NOT_OURS = "__MACOSX"  # what macOS packs into archives beside the files themselves
NAMED = 10  # files that a message names before it counts the rest
MAX_VISITS = 100  # by different ways to one folder: links that branch at every level would never come to an end


@dataclass(frozen=True)
class Listing:
    """The image files of a folder, by name relative to it, in the order of their names."""

    kind: str  # of data, in messages
    place: Path
    names: tuple[str, ...]
    classes: tuple[str, ...]  # subfolders that are classes; () for none
    stamps: FileStats
    left_out: str = ""  # a sentence
    level: int = logging.INFO  # of that sentence

    def __len__(self) -> int:
        return len(self.names)

    def name(self, number: int) -> str:
        """What messages call a file."""
        return self.names[number]

    def identity(self, number: int) -> bytes:
        """What its content hash covers beside the content."""
        return self.names[number].encode("utf-8", "surrogateescape")  # names are bytes, and need not be UTF-8

    def content(self, number: int) -> bytes:
        """The bytes of a file. Raises OSError."""
        return (self.place / self.names[number]).read_bytes()

    def labels(self) -> np.ndarray | None:
        """int64 (files,): the number of each file's class."""
        if not self.classes:
            return None
        number = {name: i for i, name in enumerate(self.classes)}
        return np.array([number[name.split("/")[0]] for name in self.names], np.int64)


@dataclass
class _Found:
    """What a folder has at all levels, by names relative to it."""

    images: list[tuple[str, os.stat_result]] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    circles: list[str] = field(default_factory=list)  # links to a folder that they are in
    wrong: list[str] = field(default_factory=list)  # what should be a file and is none, and why
    others: Counter[str] = field(default_factory=Counter)  # files with other endings, by ending


def list_images(kind: str, place: Path) -> Listing:
    """All image files at every level below the folder `place`; hidden files and folders are left out.

    Links to files and folders are followed; one that leads back to a folder it is in brings nothing new and is left
    out. Raises MissingError for no image at all, for a folder that may not be read, for links whose target is missing,
    and for pipes, sockets and empty folders that are named like an image.
    """
    taken_ns = time.time_ns()
    try:
        found = _scan(kind, place)
    except OSError as error:
        raise MissingError(f"{kind}: {error.filename or place} cannot be read: {error.strerror or error}") from None
    files = sorted(found.images)
    full = {parent for name, _ in files for parent in _parents(name)}
    wrong = [*found.wrong, *(f"{name} (a folder without images)" for name in found.folders if _named(name, full))]
    if wrong:
        raise MissingError(
            f"{kind}: {len(wrong)} of the entries of {place} are not the files or folders that they should be: bring "
            f"back what they lead to, or remove them\n  " + "\n  ".join(some(sorted(wrong)))
        )
    left_out, level = _left_out(found, full)
    if not files:
        raise MissingError(
            f"{kind}: no images in {place}: needed: files ending in {', '.join(SUFFIXES)}"
            + (f"; {left_out}" if left_out else "")
        )
    tops = {name.split("/")[0] if "/" in name else "" for name, _ in files}
    classes = tuple(sorted(tops)) if len(tops) > 1 and "" not in tops else ()
    names = tuple(name for name, _ in files)
    return Listing(kind, place, names, classes, FileStats.of(files, taken_ns), left_out, level)


def _scan(kind: str, place: Path) -> _Found:
    """Raises OSError for what can't be listed, MissingError for links without end."""
    found = _Found()
    visits: Counter[tuple[int, int]] = Counter()
    there = place.stat()
    to_do = [(place, "", frozenset([(there.st_dev, there.st_ino)]))]
    while to_do:
        folder, prefix, above = to_do.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == NOT_OURS:
                    continue
                name = prefix + entry.name
                try:
                    what = entry.stat()
                except OSError as error:
                    if not entry.is_symlink() or error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                        raise
                    reason = "which is not there" if error.errno != errno.ELOOP else "and back to itself"
                    found.wrong.append(f"{name} (a link to {Path(entry.path).readlink()}, {reason})")
                    continue
                if not stat.S_ISDIR(what.st_mode):
                    _add(found, name, what)
                    continue
                identity = (what.st_dev, what.st_ino)
                if identity in above:
                    found.circles.append(name)
                    continue
                visits[identity] += 1
                if visits[identity] > MAX_VISITS:
                    raise MissingError(
                        f"{kind}: links lead to {folder / entry.name} in more than {MAX_VISITS} ways: remove some"
                    )
                found.folders.append(name)
                to_do.append((folder / entry.name, f"{name}/", above | {identity}))
    return found


def _add(found: _Found, name: str, what: os.stat_result) -> None:
    """What is no folder."""
    ending = PurePosixPath(name).suffix.lower()
    if ending not in SUFFIXES:
        found.others[ending] += 1
    elif stat.S_ISREG(what.st_mode):
        found.images.append((name, what))
    else:
        found.wrong.append(f"{name} ({kind_of(what.st_mode)})")


def _parents(name: str) -> Iterable[str]:
    parts = name.split("/")
    return ("/".join(parts[:level]) for level in range(1, len(parts)))


def _named(folder: str, full: set[str]) -> bool:
    """Whether a folder without images is named like an image."""
    return folder not in full and PurePosixPath(folder).suffix.lower() in SUFFIXES


def _left_out(found: _Found, full: set[str]) -> tuple[str, int]:
    """What is left out, and whether that is worth a warning."""
    parts, level = [], logging.INFO
    if found.others:
        count = found.others.total()
        listed = ", ".join(some([f"{n} {ending or 'without one'}" for ending, n in found.others.most_common()]))
        many = "files with other endings are" if count > 1 else "file with another ending is"
        parts.append(f"{count} {many} left out ({listed})")
        if found.others.keys() - set(COMPANIONS):
            level = logging.WARNING
    empty = sorted(
        name for name in found.folders if name not in full and ("/" not in name or name.rpartition("/")[0] in full)
    )
    for names, one, several in (
        (empty, "folder has no image", "folders have no image"),
        (sorted(found.circles), "link leads back to a folder it is in", "links lead back to a folder they are in"),
    ):
        if names:
            parts.append(f"{len(names)} {one if len(names) == 1 else several} ({', '.join(some(names))})")
            level = logging.WARNING
    stray = sorted(name for name, _ in found.images if "/" not in name)
    if stray and sum("/" not in name for name in full) > 1:
        parts.append(f"there are no labels, since not all images are in subfolders ({', '.join(some(stray))})")
    return "; ".join(parts), level


def some(names: Sequence[str]) -> list[str]:
    """The first ones, and how many more there are."""
    return [*names[:NAMED], *([f"and {len(names) - NAMED} more"] if len(names) > NAMED else [])]
