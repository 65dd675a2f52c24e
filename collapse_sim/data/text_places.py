"""Where the files of texts are: paths and patterns below the data folder, and folders of the datasets library."""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from collapse_sim.data.text_source import SUFFIXES, Format, TextFile
from collapse_sim.errors import MissingError, RecipeError
from collapse_sim.store.files import children

STATE, SPLITS = "state.json", "dataset_dict.json"  # in folders that Dataset.save_to_disk and DatasetDict's make
NAMED = 5  # names near to one that is not there


def find_files(setting: str, names: str | Sequence[str], folder: Path, format: Format | None) -> tuple[TextFile, ...]:
    """The files that a setting names, each below the data folder `folder` or absolute; patterns have * and ?.

    Raises MissingError for a file that is not there, with those that are; RecipeError for one of unknown format.
    """
    found: list[TextFile] = []
    for name in [names] if isinstance(names, str) else names:
        path = (folder / Path(name).expanduser()).absolute()
        if glob.has_magic(name) and not path.exists():
            matches = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
            paths = sorted(match for match in matches if match.is_file() and not match.name.startswith("."))
            if not paths:
                raise MissingError(f"{setting}: no file fits {path}{_near(path)}")
        elif path.is_dir():
            found += folder_files(setting, path)
            continue
        elif path.is_file():
            paths = [path]
        else:
            raise MissingError(f"{setting}: no file {path}{_near(path)}")
        found += [TextFile(path, format or _format(path, setting)) for path in paths]
    return tuple(found)


def folder_files(asked: str, place: Path) -> list[TextFile]:
    """The Arrow files of a folder that Dataset.save_to_disk made, in order, for the setting or kind of data `asked`.

    Raises MissingError when it is another folder, or one of a whole DatasetDict, or lacks a file.
    """
    if (place / SPLITS).is_file():
        splits = ", ".join(child.name for child in children(place) if (child / STATE).is_file())
        raise MissingError(f"{asked}: {place} holds several parts: name one of the folders in it: {splits}")
    if not (place / STATE).is_file():
        raise MissingError(
            f"{asked}: {place} is a folder, and none that Dataset.save_to_disk made: name a file in it, or give "
            f"a pattern such as {place.name}/*.txt{_inside(place)}"
        )
    try:
        state = json.loads((place / STATE).read_text(encoding="utf-8"))
        names = [str(entry["filename"]) for entry in state["_data_files"]]
        chosen = state.get("_indices_data_files")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MissingError(f"{place / STATE}: not what Dataset.save_to_disk writes ({error}): save it again") from None
    if chosen:
        raise MissingError(f"{place}: a selection of rows: save it again with a newer version of datasets")
    for name in names:
        if not (place / name).is_file():
            raise MissingError(f"{asked}: {place} lacks {name}: save the dataset again")
    return [TextFile(place / name, "arrow") for name in names]


def _format(path: Path, setting: str) -> Format:
    if path.suffix.lower() in SUFFIXES:
        return SUFFIXES[path.suffix.lower()]
    raise RecipeError(
        f"{setting}: {path.name} does not end in {', '.join(SUFFIXES)}: say what it is with `format`: txt, jsonl, "
        "parquet or arrow"
    )


def _near(path: Path) -> str:
    """What there is instead of a file that is not there."""
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        path, parent = parent, parent.parent
    if parent != path.parent or not parent.is_dir():
        return ""
    there = [child.name for child in children(parent) if not child.name.startswith(".")]
    near = get_close_matches(path.name, there, n=NAMED, cutoff=0.5)
    if near:
        return f": did you mean {' or '.join(str(parent / name) for name in near)}?"
    return (
        f": there is no {path.name} in {parent}{_inside(parent)}; set --data-dir or COLLAPSE_SIM_DATA, or a whole path"
    )


def _inside(place: Path) -> str:
    there = [child.name for child in children(place) if not child.name.startswith(".")]
    more = f" and {len(there) - NAMED} more" if len(there) > NAMED else ""
    return f", which has {', '.join(there[:NAMED])}{more}" if there else ", which is empty"
