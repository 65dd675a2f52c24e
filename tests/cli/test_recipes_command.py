"""`collapse-sim recipes ...` and `collapse-sim list ...`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from collapse_sim.cli import list_command, recipes_command
from collapse_sim.core import registry
from collapse_sim.core.errors import RecipeError
from collapse_sim.recipe import shipped
from tests.recipe.helpers import GOOD, write


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


app = typer.Typer()
app.add_typer(recipes_command.app, name="recipes")
app.add_typer(list_command.app, name="list")


def run(*words: str) -> str:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_list_and_show() -> None:
    text = run("recipes", "list")
    assert [line.split()[0] for line in text.splitlines() if not line.startswith(" ")] == shipped.names()
    entries = json.loads(run("recipes", "list", "--json"))
    assert [entry["name"] for entry in entries] == shipped.names()
    assert all(entry["description"] and entry["needs"] and entry["command"] for entry in entries)
    assert run("recipes", "show", "quickstart") == shipped.path("quickstart").read_text(encoding="utf-8")


def test_copy_never_overwrites(tmp_path: Path) -> None:
    original = shipped.path("quickstart").read_text(encoding="utf-8")
    assert run("recipes", "copy", "quickstart").strip() == "quickstart.yaml"
    assert Path("quickstart.yaml").read_text(encoding="utf-8") == original
    assert run("recipes", "copy", "quickstart", "mine.yaml").strip() == "mine.yaml"
    Path("folder").mkdir()
    assert run("recipes", "copy", "quickstart", "folder").strip() == "folder/quickstart.yaml"
    Path("mine.yaml").write_text("mine")
    with pytest.raises(RecipeError, match=r"mine.yaml: exists already; choose another file"):
        run("recipes", "copy", "quickstart", "mine.yaml")
    assert Path("mine.yaml").read_text() == "mine"
    with pytest.raises(RecipeError, match="cannot be written: No such file or directory"):
        run("recipes", "copy", "quickstart", "no/such/folder.yaml")


def test_validate_names_every_problem_of_every_file() -> None:
    write(GOOD, "good.yaml")
    write(GOOD.replace("epochs: 3", "epohcs: 3").replace("model: {width: 4}", "model: {widht: 4}"), "bad.yaml")
    write("[", "worse.yaml")
    assert run("recipes", "validate", "good.yaml") == "good.yaml: ok: 3 arms x 3 seeds x 6 generations\n"
    result = CliRunner().invoke(app, ["recipes", "validate", "good.yaml", "bad.yaml", "worse.yaml", "none.yaml"])
    assert result.exit_code == 2
    assert result.stdout == "good.yaml: ok: 3 arms x 3 seeds x 6 generations\n"
    starts = [
        "bad.yaml:7: train.epohcs: unknown key",
        "bad.yaml:29: model.widht",
        "worse.yaml:1: not valid YAML",
        "none.yaml: no such file",
    ]
    assert len(result.stderr.splitlines()) == len(starts)
    for line, start in zip(result.stderr.splitlines(), starts, strict=True):
        assert line.startswith(start)
    result = CliRunner().invoke(app, ["recipes", "validate", "good.yaml", "bad.yaml", "--json"])
    assert result.exit_code == 2
    good, bad = json.loads(result.stdout)
    assert (good["ok"], good["problems"]) == (True, [])
    assert (bad["ok"], len(bad["problems"])) == (False, 2)


def test_a_recipe_without_a_smoke_block_is_fine() -> None:
    write(GOOD[: GOOD.index("smoke:")], "good.yaml")
    assert "good.yaml: ok" in run("recipes", "validate", "good.yaml")


@pytest.mark.parametrize("room", ["families", "strategies", "metrics", "data"])
def test_list_describes_every_component(room: str) -> None:
    lines = run("list", room).splitlines()
    shown = [line.split()[0] for line in lines if line.strip() and not line.startswith(" ")]
    found = json.loads(run("list", room, "--json"))
    names = [entry["name"] for entry in found[room]]
    assert names == registry.names(room)
    assert shown[: len(names)] == names
    text = " ".join(run("list", room, *names).split())
    for entry in found[room]:
        assert entry["summary"], entry["name"]
        assert " ".join(f"{entry['name']} {entry['summary']}".split()) in text
        assert {setting["name"] for setting in entry["settings"]} == set(
            registry.load(room, entry["name"]).model_fields
        )


def test_list_shows_settings_with_defaults_and_meanings() -> None:
    entries = {entry["name"]: entry for entry in json.loads(run("list", "families", "--json"))["families"]}
    hidden = next(setting for setting in entries["vae"]["settings"] if setting["name"] == "hidden")
    assert hidden == {
        "name": "hidden",
        "default": 420,
        "required": False,
        "allowed": "whole number > 0",
        "meaning": "Width of both hidden layers.",
    }
    entries = {entry["name"]: entry for entry in json.loads(run("list", "data", "--json"))["data"]}
    by_name = {setting["name"]: setting for setting in entries["image_folder"]["settings"]}
    assert by_name["path"]["required"]
    assert by_name["size"]["meaning"].startswith("Side in pixels of the square")  # declared in a base class


@pytest.mark.parametrize(
    "words", [["recipes", "list"], ["recipes", "show", "quickstart"], ["recipes", "copy", "quickstart"]]
)
def test_light_commands_do_not_import_torch(words: list[str]) -> None:
    code = (
        "import sys, typer\n"
        "from collapse_sim.cli import recipes_command\n"
        "app = typer.Typer(); app.add_typer(recipes_command.app, name='recipes')\n"
        f"app({words!r}, standalone_mode=False)\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    root = Path(recipes_command.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env={"PYTHONPATH": str(root)})
