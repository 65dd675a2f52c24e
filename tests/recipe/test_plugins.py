"""Classes of the user's own: what may be imported, what is checked before anything is called, and what is in keys."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from collapse_sim.core import registry
from collapse_sim.core.component import Component
from collapse_sim.core.errors import PluginError, RecipeError
from collapse_sim.core.plugins import described, source_of
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe import trust
from collapse_sim.recipe.catalogue import entries
from collapse_sim.recipe.loader import load

from .helpers import problems, write

TOY = """\
name: toy
data: {use: gaussian, rows: 20, held_out_rows: 20}
model: gaussian
generations: 2
seeds: 2
arms: {replace: {data: replace}}
metrics: [variance_ratio]
"""
MINE = """\
from collapse_sim.core.component import Component
from collapse_sim.data.sources import REAL, Plan, RowCounts, Source

class Mine(Component):
    def plan(self, k, counts):
        return Plan((Source(REAL, counts.real),))
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules of the test's own folder, which are forgotten after it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    importlib.invalidate_caches()


def of(strategy: str) -> str:
    return TOY.replace("{data: replace}", f"{{data: {json.dumps(strategy)}}}")


EVERY_GROUP = {
    "data": ("{use: gaussian, rows: 20, held_out_rows: 20}", "{use: X, command: touch called}"),
    "families": ("model: gaussian", "model: {use: X, command: touch called}"),
    "strategies": ("{data: replace}", "{data: {use: X, command: touch called}}"),
    "metrics": ("[variance_ratio]", "[{use: X, command: touch called}]"),
    "features": ("[variance_ratio]", "[{use: fid, features: {use: X, command: touch called}}]"),
}


@pytest.mark.parametrize("group", EVERY_GROUP)
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("os:system", "is in Python's standard library, which has no components; it is not imported"),
        ("antigravity:geohash", "is in Python's standard library"),
        ("subprocess:Popen", "is in Python's standard library"),
        ("called_module:shell", "is not a subclass of collapse_sim.core.component.Component"),
        ("called_module:Popen", "is not a subclass of collapse_sim.core.component.Component"),
        ("called_module:NoContract", "it lacks "),
        ("collapse_sim.core.errors:RecipeError", "is not a subclass of collapse_sim.core.component.Component"),
        ("collapse_sim.recipe.loader:load", "is not a subclass of collapse_sim.core.component.Component"),
        ("torch:nn", "is not a subclass of collapse_sim.core.component.Component"),
        ("called_module:gone", "cannot import"),
        (":", "is not a class name; allowed: package.module:Class"),
        ("a b:c", "is not a class name"),
        ("..x:Y", "is not a class name"),
    ],
)
def test_nothing_but_a_component_of_the_group_is_called(group: str, target: str, said: str) -> None:
    write(
        "import os\nfrom pathlib import Path\nfrom subprocess import Popen\n"
        "from collapse_sim.core.component import Component\n"
        "def shell(command='', **rest):\n    Path('called').touch()\n"
        "class NoContract(Component):\n    command: str\n"
        "    def model_post_init(self, context):\n        Path('called').touch()\n",
        "called_module.py",
    )
    old, new = EVERY_GROUP[group]
    text = TOY.replace(old, new.replace("X", json.dumps(target)))
    assert any(said in line for line in problems(text))
    assert not Path("called").exists()


RAISES = {
    "an exit": "import sys; sys.exit(0)",
    "an interrupt of another kind": "import asyncio; raise asyncio.CancelledError",
    "no memory": "raise MemoryError",
    "a text of 100,000 letters": "raise ValueError('x' * 100_000)",
    "an error without a text": "class E(Exception):\n    def __str__(self): 1 / 0\nraise E",
    "no end of calls": "def f(): f()\nf()",
    "no Python": "class:",
}


@pytest.mark.parametrize("code", RAISES.values(), ids=RAISES)
def test_whatever_an_import_raises_is_a_problem_that_names_the_module(code: str) -> None:
    write(code, "raises.py")
    (line,) = problems(of("raises:Mine"))
    assert line.startswith("r.yaml:6: arms.replace.data.use: cannot import 'raises:Mine': ")
    assert len(line) < 500


def test_what_an_import_prints_is_not_data(capsys: pytest.CaptureFixture[str]) -> None:
    write(f"print('hello')\n{MINE}", "prints.py")
    load(write(of("prints:Mine")))
    assert capsys.readouterr() == ("", "hello\n")


HOOKS = {
    "post init": (
        "    def model_post_init(self, context): raise SystemExit(3)\n",
        "hooks:Mine raised SystemExit: 3",
    ),
    "describe raises": ("    def describe(self): raise KeyError('x')\n", "`describe` raised KeyError: 'x'"),
    "describe is a set": ("    def describe(self): return {'a': {1}}\n", "`describe` raised TypeError: "),
    "describe is nothing": (
        "    def describe(self): return None\n",
        "`describe` raised TypeError: it returns NoneType",
    ),
    "plan raises": ("    def plan(self, k, counts): raise SystemExit\n", "`plan(1, ...)` raised SystemExit"),
    "plan is nothing": ("    def plan(self, k, counts): return None\n", "it gives NoneType; needed: a Plan"),
    "plan of the future": (
        "    def plan(self, k, counts): return Plan((Source(5, 1),))\n",
        "it takes rows of generation 5; allowed: -1 (real) to 0",
    ),
    "plan of what is not there": (
        "    def plan(self, k, counts): return Plan((Source(REAL, 10**9),))\n",
        "which has 20",
    ),
}


@pytest.mark.parametrize(("code", "said"), HOOKS.values(), ids=HOOKS)
def test_whatever_a_component_does_names_it(tmp_path: Path, code: str, said: str) -> None:
    write(MINE + code, "hooks.py")
    with pytest.raises((RecipeError, PluginError)) as caught:
        prepare_described(load(write(of("hooks:Mine"))), tmp_path)
    assert said in str(caught.value)
    assert "hooks:Mine" in str(caught.value) or "arms.replace.data" in str(caught.value)


def prepare_described(recipe: object, folder: Path) -> None:
    prepare(recipe, folder)  # type: ignore[arg-type]
    described(recipe.arms[0].strategy)  # type: ignore[attr-defined]


def test_answers_of_the_wrong_type(tmp_path: Path) -> None:
    family = "from collapse_sim.families.gaussian import Gaussian\nclass Mine(Gaussian):\n    "
    write(family + "kinds = 'points'\n", "wrong_kinds.py")
    (line,) = problems(TOY.replace("model: gaussian", "model: 'wrong_kinds:Mine'"))
    assert "wrong_kinds:Mine: `kinds` is 'points'; needed: a tuple of texts" in line
    data = "from collapse_sim.data.toys.gaussian_points import GaussianPoints\nclass Mine(GaussianPoints):\n    "
    write(data + "def inspect(self, folder): return 3\n", "wrong_info.py")
    recipe = load(write(TOY.replace("use: gaussian", "use: 'wrong_info:Mine'")))
    with pytest.raises(PluginError, match=r"wrong_info:Mine: `inspect` raised TypeError: it gives int; needed: "):
        prepare(recipe, tmp_path)
    write(family + "def build(self, info): raise OSError('no')\n", "wrong_build.py")
    with pytest.raises(PluginError, match="wrong_build:Mine: `build` raised OSError: no"):
        prepare(load(write(TOY.replace("model: gaussian", "model: 'wrong_build:Mine'"))), tmp_path)


# What may be imported


def test_no_plugins() -> None:
    write(MINE, "mine_off.py")
    assert load(write(of("mine_off:Mine"))).arms
    (line,) = problems(of("mine_off:Mine"), plugins=False)
    assert "'mine_off:Mine' is not imported: --no-plugins allows what comes with this package only" in line
    assert load(write(TOY), plugins=False).arms
    assert load(write(of("collapse_sim.plan.strategies:Fresh")), plugins=False).arms  # this package's own, by its place


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run directory whose recipe names a module that leaves a mark when it is imported."""
    write(f"from pathlib import Path\nPath('imported').touch()\n{MINE}", "marks.py")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(of("marks:Mine"))
    (folder / "run.json").write_text("{}")
    return folder


def test_a_run_directory_from_elsewhere_imports_nothing(run_folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"'marks:Mine' is not imported: .*run was not made by a run of yours"):
        load(run_folder / "recipe.yaml")
    write("extends: run/recipe.yaml\nname: over\n", "over.yaml")
    with pytest.raises(RecipeError, match="use --plugins"):
        load("over.yaml")
    assert not Path("imported").exists()
    assert load(run_folder / "recipe.yaml", plugins=True).arms
    assert Path("imported").exists()


def test_what_was_run_there_may_be_imported_there_and_what_the_command_line_names(run_folder: Path) -> None:
    trust.remember(run_folder, load(run_folder / "recipe.yaml", plugins=True))
    assert load(run_folder / "recipe.yaml").arms
    shutil.copytree(run_folder, "copy")
    with pytest.raises(RecipeError, match="copy was not made by a run of yours"):
        load("copy/recipe.yaml")
    assert load("copy/recipe.yaml", overrides=["arms.replace.data=marks:Mine"]).arms
    write(MINE, "other_mine.py")
    (run_folder / "recipe.yaml").write_text(of("other_mine:Mine"))
    with pytest.raises(RecipeError, match="'other_mine:Mine' is not imported"):
        load(run_folder / "recipe.yaml")


class Point:
    """In the place of an entry point."""

    name = "offered"

    def __init__(self, found: object) -> None:
        self.found = found

    def load(self) -> object:
        if isinstance(self.found, BaseException):
            raise self.found
        return self.found


@pytest.mark.parametrize("found", [print, ImportError("gone"), SystemExit(1), int])
def test_an_entry_point_that_is_no_component_hides_nothing(found: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entry_points", lambda group: [Point(found)])
    listed = {entry.name: entry.summary for entry in entries("strategies")}
    assert listed["offered"].startswith("cannot be used: ")
    assert set(listed) == {*registry.BUILT_IN["strategies"], "offered"}
    assert "offered" in problems(of("offered"))[0]


def test_entry_points_are_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    write(MINE, "offered_mine.py")
    monkeypatch.setattr(registry, "_entry_points", lambda group: [Point(importlib.import_module("offered_mine").Mine)])
    assert type(load(write(of("offered"))).arms[0].strategy).__name__ == "Mine"
    assert "--no-plugins" in problems(of("offered"), plugins=False)[0]


# Sources in keys

FILES = {
    "pack/__init__.py": "",
    "pack/mine.py": f"from . import near\nfrom .inner.deep import thing\nimport aside\n{MINE}",
    "pack/near.py": "x = 1\n",
    "pack/inner/__init__.py": "",
    "pack/inner/deep.py": "from ..late import other\nthing = other\n",
    "pack/late.py": "other = 2\ndef f():\n    import lazy\n",
    "pack/unrelated.py": "x = 1\n",
    "aside.py": "import numpy\n",
    "lazy.py": "raise SystemExit('imported')\n",
    "stranger.py": "x = 1\n",
}


def key(folder: Path, *changes: tuple[str, str]) -> str:
    """The source's hash of pack.mine:Mine in a fresh process, files changed so."""
    for name, text in {**FILES, **dict(changes)}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    code = "from pack.mine import Mine; from collapse_sim.core.plugins import source_of; print(source_of(Mine))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.slow
def test_the_key_follows_every_module_that_is_imported_and_no_other(tmp_path: Path) -> None:
    first = key(tmp_path / "a")
    assert key(tmp_path / "elsewhere") == first
    for same in ("pack/unrelated.py", "stranger.py"):
        assert key(tmp_path / "a", (same, "x = 2\n")) == first
    others = {
        key(tmp_path / "a", (name, text + "# changed\n"))
        for name, text in FILES.items()
        if name not in ("pack/unrelated.py", "stranger.py")
    }
    assert first not in others
    assert len(others) == len(FILES) - 2


def test_an_edited_class_has_another_key_in_every_artefact_that_it_makes(tmp_path: Path) -> None:
    data = "from collapse_sim.data.toys.gaussian_points import GaussianPoints\nclass Mine(GaussianPoints):\n    pass\n"
    text = TOY.replace("use: gaussian", "use: 'edited:Mine'")
    digests = []
    for comment in ("", "# edited\n"):
        write(data + comment, "edited.py")
        sys.modules.pop("edited", None)
        importlib.invalidate_caches()
        digests.append({spec.digest for spec in prepare(load(write(text)), tmp_path).specs()})
    assert len(digests[0]) == len(digests[1])
    assert not digests[0] & digests[1]


def test_built_in_classes_have_no_source_in_their_keys() -> None:
    recipe = load(write(TOY))
    assert described(recipe.model) == recipe.model.describe()


def test_a_class_without_a_file_has_no_key() -> None:
    cls = type("Here", (Component,), {"__module__": "nowhere_at_all"})
    with pytest.raises(PluginError, match="its module has no file"):
        source_of(cls)
