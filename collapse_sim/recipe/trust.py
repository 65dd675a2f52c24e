"""Which plug-ins a recipe may import: for a run directory's recipe, only those that this user has run there."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from collapse_sim.core import registry
from collapse_sim.core.errors import StoreError
from collapse_sim.core.hashing import digest_of
from collapse_sim.core.registry import Allowed
from collapse_sim.data.file_cache import cache_folder, seal, unsealed
from collapse_sim.plan.settings import Recipe
from collapse_sim.store.run_directory import RUN_FILE


def allowed(files: Iterable[Path], plugins: bool | None, named: Collection[Any]) -> Allowed | None:
    """Which plug-ins may be imported for a recipe that is read from `files`; None: all.

    `plugins` is the user's explicit choice. Without it, a recipe in a run directory, which may come from elsewhere, may
    use plug-ins that this user has run in that directory, and those that the command line names (values in `named`).
    """
    if plugins is False:
        return Allowed(
            (), "--no-plugins allows what comes with this package only; leave it out if you trust the module"
        )
    folders = [file.parent for file in files if (file.parent / RUN_FILE).is_file()]
    if plugins or not folders:
        return None
    names = {*strings(named), *(name for folder in folders for name in _remembered(folder))}
    return Allowed(
        names,
        f"{folders[0]} was not made by a run of yours, or was moved, and importing a module runs its code; "
        "if you trust it, use --plugins",
    )


def remember(folder: Path, recipe: Recipe) -> None:
    """Record that this user runs a recipe with its plug-ins in this run directory."""
    parts = [recipe.document.get(key) for key in ("data", "model", "arms", "metrics")]
    names = sorted({name for name in strings(parts) if registry.is_plugin_name(name)})
    known = _remembered(folder)
    if set(names) - set(known):
        note = {"run": str(folder.resolve()), "plugins": sorted({*names, *known})}
        with contextlib.suppress(OSError, RuntimeError, StoreError):  # without the note, `--plugins` is needed
            seal(_note(folder), note)


def _remembered(folder: Path) -> list[str]:
    with contextlib.suppress(RuntimeError):  # there is no home folder
        note = unsealed(_note(folder))
        return [str(name) for name in note["plugins"]] if note else []
    return []


def _note(folder: Path) -> Path:
    return cache_folder() / "plugins" / f"{digest_of(str(folder.resolve()))}.json"


def strings(value: Any) -> Iterator[str]:
    """All strings within a plain value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, Collection):
        for part in value:
            yield from strings(part)
