"""Finds text files: by paths and patterns below the data folder, and in folders of the datasets library."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.core.readable import file_problem, path_exists
from collapse_sim.data.data_files import names_in
from collapse_sim.data.saved_datasets import SPLITS, STATE, saved_names
from collapse_sim.data.text.text_source import SUFFIXES, Format, TextFile

NAMED = 5  # file names that a message lists
GZIP_FORMATS = ("txt", "jsonl", "csv", "tsv")  # formats that may be compressed with gzip


def find_files(setting: str, names: str | Sequence[str], folder: Path, format: Format | None) -> tuple[TextFile, ...]:
    """The files that a setting names, each below the data folder `folder` or absolute; patterns have *, ? and [].

    Raises MissingError for a file that does not exist, listing those that do, and for a path that is not a file;
    RecipeError for a file of unknown format, and for one that is named twice.
    """
    files: list[TextFile] = []
    for name in [names] if isinstance(names, str) else names:
        try:
            files += _files_of(setting, name, folder, format)
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
            raise MissingError(f"{setting}: {folder / name}: {reason}") from None
    for first, second in same_files(files, files):
        again = f"{second} is {first}, by a link" if second != first else f"{first} is named twice"
        raise RecipeError(f"{setting}: {again}, so its texts would count twice: name it once")
    return tuple(files)


def same_files(first_files: Sequence[TextFile], second_files: Sequence[TextFile]) -> Iterator[tuple[Path, Path]]:
    """Pairs of a first and a second file that are the same file, by any name; an entry is not paired with itself.

    A copy is a different file: its texts are compared in texts.py.
    """
    known: dict[tuple[int, int], int] = {}
    for number, file in enumerate(first_files):
        known.setdefault(_identity(file.path), number)
    for number, file in enumerate(second_files):
        first = known.get(_identity(file.path))
        if first is not None and not (first_files is second_files and first == number):
            yield first_files[first].path, file.path


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _files_of(setting: str, name: str, folder: Path, format: Format | None) -> list[TextFile]:
    """The files that one name stands for: a file, a folder of the datasets library, or all files matching a pattern."""
    path = (folder / Path(name).expanduser()).absolute()
    if glob.has_magic(name) and not path_exists(path):
        paths = _matching(name, folder)
        if not paths:
            raise MissingError(f"{setting}: no file matches {path}{_suggestion(path)}")
    elif path.is_dir():
        return folder_files(setting, path)
    elif path_exists(path):
        paths = [path]
    else:
        raise MissingError(f"{setting}: no file {path}{_suggestion(path)}")
    for path in paths:
        if wrong := file_problem(path):
            raise MissingError(f"{setting}: {path}: {wrong}: remove it, or name only the intended files")
    return [TextFile(path, format or _format(path, setting)) for path in paths]


def _matching(pattern: str, folder: Path) -> list[Path]:
    """Files below a folder that match a pattern, in the order of their names. ** matches any number of folders.

    The folder's own name is not a pattern. Hidden files and folders match only patterns that begin with a dot, as in a
    shell. If an entry has exactly the name of a part of the pattern, only it matches. Links to folders are followed,
    once.
    """
    parts = Path(pattern).parts
    if pattern.startswith("~"):
        base, parts = Path(parts[0]).expanduser(), parts[1:]
    elif Path(pattern).is_absolute():
        base, parts = Path(parts[0]), parts[1:]
    else:
        base = folder.absolute()
    paths = {path for path in _matches_below(base, parts, ()) if not path.is_dir()}
    return sorted(paths)


def _matches_below(folder: Path, parts: tuple[str, ...], visited: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Matches of the rest of a pattern below a folder; `visited`: identities of the folders that ** has passed."""
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        identity = _identity(folder)
        if identity in visited:
            return
        yield from _matches_below(folder, rest or ("*",), visited)
        for child in _matching_children(folder, "*"):
            if child.is_dir():
                yield from _matches_below(child, parts, (*visited, identity))
    elif path_exists(folder / part):
        yield from _matches_below(folder / part, rest, visited)
    elif glob.has_magic(part):
        for child in _matching_children(folder, part):
            if not rest or child.is_dir():
                yield from _matches_below(child, rest, visited)


def _matching_children(folder: Path, part: str) -> list[Path]:
    """The children whose names match a part of a pattern."""
    hidden = part.startswith(".")
    return [
        child for child in sorted(folder.iterdir())
        if child.name.startswith(".") == hidden and fnmatchcase(child.name, part)
    ]  # fmt: skip


def folder_files(label: str, folder: Path) -> list[TextFile]:
    """The Arrow files of a folder from Dataset.save_to_disk, in order; `label` begins messages (a setting or kind).

    Raises MissingError when it is another folder or that of a DatasetDict, or when a file is missing.
    """
    if (folder / SPLITS).is_file():
        splits = ", ".join(name for name in names_in(folder) if (folder / name / STATE).is_file())
        raise MissingError(f"{label}: {folder} contains several parts: name one of the folders in it: {splits}")
    if not (folder / STATE).is_file():
        raise MissingError(
            f"{label}: {folder} is a folder, but not one from Dataset.save_to_disk: name a file in it, or give "
            f"a pattern such as {folder.name}/*.txt{_listing(folder)}"
        )
    names = saved_names(folder)
    for name in names:
        if wrong := file_problem(folder / name):
            lacks = f"{folder} lacks {name}" if wrong == "no such file" else f"{folder / name}: {wrong}"
            raise MissingError(f"{label}: {lacks}: save the dataset again")
    return [TextFile(folder / name, "arrow") for name in names]


def _format(path: Path, setting: str) -> Format:
    packed = path.suffix.lower() == ".gz"
    ending = Path(path.stem).suffix if packed else path.suffix
    format = SUFFIXES.get(ending.lower())
    if format is None:
        raise RecipeError(
            f"{setting}: {path.name} does not end in {', '.join(SUFFIXES)}: set `format` to txt, jsonl, csv, tsv, "
            "parquet or arrow"
        )
    if packed and format not in GZIP_FORMATS:
        raise RecipeError(f"{setting}: {path.name}: {ending} files cannot be read from gzip: decompress it")
    return format


def _suggestion(path: Path) -> str:
    """The end of a message on a missing file: similar names, or what its folder contains."""
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        path, parent = parent, parent.parent
    names = _visible_names(parent)
    if glob.has_magic(path.name):
        return f" in {parent}{_listing(parent)}"
    matches = get_close_matches(path.name, names, n=NAMED, cutoff=0.5)
    if matches:
        return f": did you mean {' or '.join(str(parent / name) for name in matches)}?"
    return (
        f": there is no {path.name} in {parent}{_listing(parent)}; set --data-dir or COLLAPSE_SIM_DATA, or give an "
        "absolute path"
    )


def _listing(folder: Path) -> str:
    names = _visible_names(folder)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f", which has {', '.join(names[:NAMED])}{more}" if names else ", which is empty"


def _visible_names(folder: Path) -> list[str]:
    return [name for name in names_in(folder) if not name.startswith(".")]
