"""The recipes that come with the package, by name. Nothing heavy is imported here."""

from __future__ import annotations

import re
from pathlib import Path

import collapse_sim
from collapse_sim.core.errors import RecipeError
from collapse_sim.core.registry import did_you_mean

_FIELD = re.compile(r"#\s*([a-z]+):\s*(.*)")


def folder() -> Path:
    """The folder of shipped recipes: inside the package when installed, beside it in a source checkout."""
    package = Path(collapse_sim.__file__).parent
    inside = package / "recipes_shipped"
    return inside if inside.is_dir() else package.parent / "recipes"


def names() -> list[str]:
    """The names of all shipped recipes."""
    return sorted(file.stem for file in folder().glob("*.yaml"))


def path(name: str) -> Path:
    """The file of a shipped recipe. Raises RecipeError with a suggestion when there is none of that name."""
    if name not in names():
        raise RecipeError(f"no shipped recipe {name!r}{did_you_mean(name, names())}; there are: {', '.join(names())}")
    return folder() / f"{name}.yaml"


def find(reference: str | Path) -> Path:
    """The file that the command line names: a path, or else a shipped recipe's name.

    A file has precedence; a folder, such as a run directory, has not.
    """
    file, name = Path(reference), str(reference)
    if is_file(file):
        return file
    if name in names():
        return path(name)
    if is_file(file, folder=True):
        raise RecipeError(f"{reference}: a folder; give one recipe file in it")
    shown = name if len(name) <= 200 else name[:197] + "..."
    raise RecipeError(
        f"{shown}: no such file, and no shipped recipe of that name{did_you_mean(file.stem, names())}; "
        f"there are: {', '.join(names())}"
    )


def is_file(path: Path, *, folder: bool = False) -> bool:
    """Whether a file (or a folder) of that name exists; False for a name that no file can have."""
    try:
        return path.is_dir() if folder else path.is_file()
    except (OSError, ValueError):
        return False


def label(file: Path) -> str:
    """A recipe file's name in messages: relative to the current folder if the file is below it."""
    cwd = Path.cwd()
    absolute = file if file.is_absolute() else cwd / file
    return str(absolute.relative_to(cwd)) if absolute.is_relative_to(cwd) else str(file)


def header(file: Path) -> dict[str, str]:
    """The fields of the comment that a shipped recipe begins with: command, runtime, needs, reference, shows."""
    fields: dict[str, str] = {}
    key = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        field = _FIELD.fullmatch(line)
        if field:
            key, text = field.groups()
            fields[key] = text.strip()
        elif key:
            fields[key] = f"{fields[key]} {line.lstrip('#').strip()}".strip()
    return fields
