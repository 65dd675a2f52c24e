"""The order of the rooms: who may import whom, so that no arrow comes back."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import collapse_sim

PACKAGE = Path(collapse_sim.__file__).parent
TESTS = Path(__file__).parent
FLOORS = (
    "core", "store", "data", "families", "metrics", "remedies", "plan", "recipe", "engine", "ui", "analysis", "run",
    "cli",
)  # fmt: skip
TOP = {"__init__", "__main__", "api", "testing"}  # modules beside the rooms, which may import all of them
GROUND = {"__init__"}  # the version, which all of them may import
ACROSS = {  # tests of what several modules do together; every other file is named after the module that it tests
    "analysis": {"notes"},
    "cli": {
        "bad_data", "bad_places", "bad_recipe", "bad_text", "export_text", "harmless", "mirrored_runs", "plugins",
        "pruned_runs", "smoke", "stops", "strange_files", "streams", "torchrun",
    },
    "data": {"damaged_texts", "docs", "every_kind"},
    "engine": {
        "bad_cells", "closed_forms", "conditional_chains", "curated_chains", "curated_rules", "growth", "mutations",
        "own_teachers", "parts",
    },
    "metrics": {"docs", "text_engine", "torchmetrics"},
    "recipe": {"arm_settings", "default_metrics", "docs", "limits", "plugins"},
    "run": {"numbers_agree", "ray_nodes"},
    "store": {"failing_mirrors", "mirroring_s3", "resume"},
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(module: str) -> str:
    """ "collapse_sim.store.files" -> "store"; a module beside the rooms is its own."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported(path: Path) -> Iterator[str]:
    """Full names of this package's modules that a module imports, anywhere in its text, for types too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "collapse_sim")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "collapse_sim":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                there = PACKAGE.parent.joinpath(*full.split("."))
                yield full if there.with_suffix(".py").is_file() or there.is_dir() else str(node.module)
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"


def named(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def test_every_module_is_in_a_room_that_is_in_the_order() -> None:
    found = {room(named(path)) for path in modules() if path != PACKAGE / "__init__.py"}
    assert found - TOP == set(FLOORS)
    assert len(FLOORS) + len(TOP - {"__init__", "__main__"}) <= 15


@pytest.mark.parametrize("path", modules(), ids=named)
def test_a_module_imports_nothing_from_above(path: Path) -> None:
    mine = room(named(path))
    if mine in TOP:
        return
    allowed = {*FLOORS[: FLOORS.index(mine) + 1], *GROUND}
    above = sorted(other for other in set(imported(path)) if room(other) not in allowed)
    assert not above, f"{named(path)} imports {', '.join(above)}"


def test_no_two_modules_have_the_same_name() -> None:
    """But `base`, which is a room's contract, the module that a room is named after, and what Python itself names."""
    own = ("__init__", "__main__", "base")
    names = Counter(path.stem for path in modules() if path.stem not in (*own, path.parent.name))
    folders = Counter(path.parent.name for path in modules() if path.stem == "__init__")
    assert [name for name, count in (names + folders).items() if count > 1] == []


def test_no_two_classes_have_the_same_name() -> None:
    where: dict[str, list[str]] = {}
    for path in modules():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                where.setdefault(node.name, []).append(named(path))
    assert {name: places for name, places in where.items() if len(places) > 1} == {}


def test_no_file_is_longer_than_four_hundred_lines() -> None:
    lengths = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def files_of_tests(place: str) -> set[str]:
    """Names of the test files in a folder of tests/, without "test_"."""
    return {path.stem.removeprefix("test_") for path in (TESTS / place).rglob("test_*.py")}


@pytest.mark.parametrize("floor", FLOORS)
def test_tests_lie_under_the_name_of_their_module(floor: str) -> None:
    """Or are listed as tests across modules, and say in their first line what they cover."""
    names = {path.stem for path in (PACKAGE / floor).rglob("*.py")} - {"__init__"}
    across = ACROSS.get(floor, set())
    assert files_of_tests(floor) - names - across == set(), "name it after a module of this room, or list it in ACROSS"
    assert across - files_of_tests(floor) == set(), "no such file: take it out of ACROSS"
    assert across & names == set(), "a module has this name: take it out of ACROSS"
    for path in (TESTS / floor).rglob("test_*.py"):
        if path.stem.removeprefix("test_") in across:
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} does not say what it covers"


def test_no_room_of_tests_is_without_a_room_of_modules() -> None:
    folders = {path.parent.name for path in TESTS.glob("*/test_*.py")}
    assert folders - set(FLOORS) == {"benchmarks", "docs", "gpu", "torture"}
