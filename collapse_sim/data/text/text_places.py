"""Where the files of texts are: paths and patterns below the data folder, and folders of the datasets library."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from collapse_sim.core.errors import MissingError, RecipeError
from collapse_sim.core.readable import fault, there
from collapse_sim.data.data_files import names_in
from collapse_sim.data.saved_datasets import SPLITS, STATE, saved_names
from collapse_sim.data.text.text_source import SUFFIXES, Format, TextFile

NAMED = 5  # names near to one that is not there
UNPACKED = ("txt", "jsonl", "csv", "tsv")  # formats that are read when they are packed by gzip


def find_files(setting: str, names: str | Sequence[str], folder: Path, format: Format | None) -> tuple[TextFile, ...]:
    """The files that a setting names, each below the data folder `folder` or absolute; patterns have *, ? and [].

    Raises MissingError for a file that is not there, with those that are, and for what is no file; RecipeError for one
    of unknown format, and for one that is named twice.
    """
    found: list[TextFile] = []
    for name in [names] if isinstance(names, str) else names:
        try:
            found += _named(setting, name, folder, format)
        except (OSError, ValueError) as error:
            said = (error.strerror if isinstance(error, OSError) else "") or str(error)
            raise MissingError(f"{setting}: {folder / name}: {said}") from None
    for first, second in same_files(found, found):
        again = f"{second} is {first}, by a link" if second != first else f"{first} is named twice"
        raise RecipeError(f"{setting}: {again}, so its texts would count twice: name it once")
    return tuple(found)


def same_files(some: Sequence[TextFile], others: Sequence[TextFile]) -> Iterator[tuple[Path, Path]]:
    """Pairs of one file of each that are the same one, by whatever names; no file of a sequence with itself.

    A copy is another file: its texts are compared (texts.py).
    """
    known: dict[tuple[int, int], int] = {}
    for number, file in enumerate(some):
        known.setdefault(_identity(file.path), number)
    for number, file in enumerate(others):
        first = known.get(_identity(file.path))
        if first is not None and not (some is others and first == number):
            yield some[first].path, file.path


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _named(setting: str, name: str, folder: Path, format: Format | None) -> list[TextFile]:
    """What one name means: a file, a folder of the datasets library, or all files that fit a pattern."""
    path = (folder / Path(name).expanduser()).absolute()
    if glob.has_magic(name) and not there(path):
        paths = _fitting(name, folder)
        if not paths:
            raise MissingError(f"{setting}: no file fits {path}{_near(path)}")
    elif path.is_dir():
        return folder_files(setting, path)
    elif there(path):
        paths = [path]
    else:
        raise MissingError(f"{setting}: no file {path}{_near(path)}")
    for path in paths:
        if wrong := fault(path):
            raise MissingError(f"{setting}: {path}: {wrong}: remove it, or name the files that are meant")
    return [TextFile(path, format or _format(path, setting)) for path in paths]


def _fitting(pattern: str, folder: Path) -> list[Path]:
    """What fits a pattern below a folder, in the order of names, without folders. ** is any number of folders.

    The folder's own name is no pattern. Hidden files and folders fit only what begins with a point, as in a shell; what
    is there under the very name of a part of the pattern is what that part means. Links to folders are followed, once.
    """
    parts = Path(pattern).parts
    if pattern.startswith("~"):
        base, parts = Path(parts[0]).expanduser(), parts[1:]
    elif Path(pattern).is_absolute():
        base, parts = Path(parts[0]), parts[1:]
    else:
        base = folder.absolute()
    found = {path for path in _below(base, parts, ()) if not path.is_dir()}
    return sorted(found)


def _below(place: Path, parts: tuple[str, ...], within: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """What fits the rest of a pattern below a place; `within`: the folders that ** has gone through, by identity."""
    if not parts:
        yield place
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        here = _identity(place)
        if here in within:
            return
        yield from _below(place, rest or ("*",), within)
        for child in _listed(place, "*"):
            if child.is_dir():
                yield from _below(child, parts, (*within, here))
    elif there(place / part):
        yield from _below(place / part, rest, within)
    elif glob.has_magic(part):
        for child in _listed(place, part):
            if not rest or child.is_dir():
                yield from _below(child, rest, within)


def _listed(place: Path, part: str) -> list[Path]:
    """The children whose names fit a part of a pattern."""
    hidden = part.startswith(".")
    return [
        child for child in sorted(place.iterdir())
        if child.name.startswith(".") == hidden and fnmatchcase(child.name, part)
    ]  # fmt: skip


def folder_files(asked: str, place: Path) -> list[TextFile]:
    """The Arrow files of a folder that Dataset.save_to_disk made, in order, for the setting or kind of data `asked`.

    Raises MissingError when it is another folder, or one of a whole DatasetDict, or lacks a file.
    """
    if (place / SPLITS).is_file():
        splits = ", ".join(name for name in names_in(place) if (place / name / STATE).is_file())
        raise MissingError(f"{asked}: {place} holds several parts: name one of the folders in it: {splits}")
    if not (place / STATE).is_file():
        raise MissingError(
            f"{asked}: {place} is a folder, and none that Dataset.save_to_disk made: name a file in it, or give "
            f"a pattern such as {place.name}/*.txt{_inside(place)}"
        )
    names = saved_names(place)
    for name in names:
        if wrong := fault(place / name):
            lacks = f"{place} lacks {name}" if wrong == "no such file" else f"{place / name}: {wrong}"
            raise MissingError(f"{asked}: {lacks}: save the dataset again")
    return [TextFile(place / name, "arrow") for name in names]


def _format(path: Path, setting: str) -> Format:
    packed = path.suffix.lower() == ".gz"
    ending = Path(path.stem).suffix if packed else path.suffix
    format = SUFFIXES.get(ending.lower())
    if format is None:
        raise RecipeError(
            f"{setting}: {path.name} does not end in {', '.join(SUFFIXES)}: say what it is with `format`: txt, jsonl, "
            "csv, tsv, parquet or arrow"
        )
    if packed and format not in UNPACKED:
        raise RecipeError(f"{setting}: {path.name}: {ending} is not read when it is packed by gzip: unpack it")
    return format


def _near(path: Path) -> str:
    """What there is instead of a file that is not there."""
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        path, parent = parent, parent.parent
    shown = _shown(parent)
    if glob.has_magic(path.name):
        return f" in {parent}{_inside(parent)}"
    near = get_close_matches(path.name, shown, n=NAMED, cutoff=0.5)
    if near:
        return f": did you mean {' or '.join(str(parent / name) for name in near)}?"
    return (
        f": there is no {path.name} in {parent}{_inside(parent)}; set --data-dir or COLLAPSE_SIM_DATA, or a whole path"
    )


def _inside(place: Path) -> str:
    shown = _shown(place)
    more = f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    return f", which has {', '.join(shown[:NAMED])}{more}" if shown else ", which is empty"


def _shown(place: Path) -> list[str]:
    return [name for name in names_in(place) if not name.startswith(".")]
