"""A recipe without a model for samples in folders ARM/GENERATION/SEED, as `export --all` writes them."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from collapse_sim.core.errors import RecipeError
from collapse_sim.data.data_files import is_folder, names_in
from collapse_sim.plan.settings import Recipe
from collapse_sim.recipe.loader import load
from collapse_sim.recipe.marked import RECIPE_NAME

LAYOUT = "ARM/GENERATION/SEED, as in replace/generation-003/seed-0; a seed may be a file, as in seed-0.npz"
REFERENCE = "reference"  # of `export --reference`: rows that samples are compared with
NUMBERED = re.compile(r"(?P<head>\D*)(?P<digits>\d{1,9})(?P<tail>(\.\w+)?)")
EXPORTED = re.compile(r"\d\d-(?P<arm>.+)")  # an arm's folder: its number in the recipe, and its name
SHOWN = 10  # numbers that a message names


class SeedPlaces(NamedTuple):
    """The seeds of one generation of one arm."""

    seeds: tuple[int, ...]
    template: str  # a path with {seed}


def tree_recipe(
    tree: Path, data: str, metrics: Sequence[str], *, rows: int | None = None, plugins: bool | None = None
) -> Recipe:
    """A recipe for the samples in `tree`: `data` and `metrics` are components as YAML, `rows` how many rows of each
    file are scored (None: all).

    Raises RecipeError when folders are named otherwise, and when arms or generations have different seeds.
    """
    arms = _arms(tree)
    seeds = _common_seeds(arms)
    last = _last_generation(tree, arms)
    document: dict[str, Any] = {
        "name": _name(tree),
        "generations": last,
        "seeds": list(seeds),
        "arms": {
            arm: {"rows_from": {str(k): places.template for k, places in generations.items()}}
            for arm, generations in _named(arms).items()
        },
    }
    overrides = [f"data={data}", *([f"samples={rows}"] if rows is not None else [])]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{document['name']}.yaml"
        file.write_text(json.dumps(document, indent=1), encoding="utf-8")  # JSON is YAML
        recipe = load(file, overrides=overrides, metrics=metrics, plugins=plugins)
    return replace(recipe, where=lambda path: str(tree))


def _name(tree: Path) -> str:
    """The run's name: that of the folder, as far as a recipe may be named so."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", tree.resolve().name).strip("-._+")[:RECIPE_NAME] or "samples"


def _arms(tree: Path) -> dict[str, dict[int, SeedPlaces]]:
    """{folder of an arm: {generation: its seeds}}. Raises RecipeError for anything that is named otherwise."""
    if not is_folder(tree):
        raise RecipeError(f"{tree}: no such folder; needed: a folder of samples, {LAYOUT}")
    arms: dict[str, dict[int, SeedPlaces]] = {}
    problems: list[str] = []
    for name in _folders(tree):
        if name == REFERENCE:
            continue
        generations: dict[int, SeedPlaces] = {}
        for folder in _folders(tree / name):
            match = NUMBERED.fullmatch(folder)
            places = _places(tree / name / folder) if match and not match["tail"] else None
            if match is None or places is None or int(match["digits"]) in generations:
                problems.append(f"{tree / name / folder}: not a generation with its seeds, once; needed: {LAYOUT}")
            else:
                generations[int(match["digits"])] = places
        if generations:
            arms[name] = dict(sorted(generations.items()))
    if not arms and not problems:
        problems.append(f"{tree}: no samples in it; needed: {LAYOUT}")
    if problems:
        raise RecipeError(*problems)
    return arms


def _folders(folder: Path) -> Iterator[str]:
    return (name for name in names_in(folder) if not name.startswith(".") and is_folder(folder / name))


def _places(folder: Path) -> SeedPlaces | None:
    """The seeds in a folder; None unless every entry is one, and all are named alike."""
    names = [name for name in names_in(folder) if not name.startswith(".")]
    matches = [match for name in names if (match := NUMBERED.fullmatch(name))]
    if not matches or len(matches) < len(names):
        return None
    first = matches[0]
    digits = [match["digits"] for match in matches]
    width = max((len(text) for text in digits if text.startswith("0") and len(text) > 1), default=1)
    seeds = sorted(int(text) for text in digits)
    if {f"{first['head']}{seed:0{width}d}{first['tail']}" for seed in seeds} != set(names):
        return None
    head, tail = (
        text.replace("{", "{{").replace("}", "}}") for text in (f"{folder.absolute()}/{first['head']}", first["tail"])
    )
    return SeedPlaces(tuple(seeds), f"{head}{{seed:0{width}d}}{tail}")


def _common_seeds(arms: Mapping[str, Mapping[int, SeedPlaces]]) -> tuple[int, ...]:
    """The seeds, which all arms and generations must have."""
    all_places = {f"{arm}, generation {k}": places for arm, of in arms.items() for k, places in of.items()}
    (first, expected), *others = all_places.items()
    problems = [
        f"{other} has seeds {_text(places.seeds)}, and {first} has {_text(expected.seeds)}; needed: the same for all"
        for other, places in others
        if places.seeds != expected.seeds
    ]
    if problems:
        raise RecipeError(*problems)
    return expected.seeds


def _last_generation(tree: Path, arms: Mapping[str, Mapping[int, SeedPlaces]]) -> int:
    """The last generation's number. Raises RecipeError for arms that lack one of generations 0 to this."""
    last = max(k for generations in arms.values() for k in generations)
    problems = [
        f"{tree / arm}: no generation {_text(absent)}; needed: 0 to {last}, in every arm"
        for arm, generations in arms.items()
        if (absent := [k for k in range(last + 1) if k not in generations])
    ]
    if problems:
        raise RecipeError(*problems)
    return last


def _text(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:SHOWN])) + ", ..." * (len(numbers) > SHOWN)


def _named(arms: Mapping[str, Mapping[int, SeedPlaces]]) -> dict[str, Mapping[int, SeedPlaces]]:
    """Without the numbers that `export` puts before names, if all arms have one and stay different."""
    matches = [EXPORTED.fullmatch(name) for name in arms]
    names = [match["arm"] for match in matches if match]
    if len(set(names)) < len(arms):
        return dict(arms)
    return dict(zip(names, arms.values(), strict=True))
