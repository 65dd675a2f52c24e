"""What a user installs: a wheel with the recipes in it; and what the README says is true."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (path,) = folder.glob("*.whl")
    return path


def test_recipes_ship_inside_the_wheel(wheel, tmp_path):
    """Unpacked in another folder, without the checkout, all recipes are found by name."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); " + (
        "from collapse_sim.recipe import shipped; print(shipped.__file__, *shipped.names())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    where, *names = done.stdout.split()
    assert Path(where).is_relative_to(tmp_path / "site")
    assert names == sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
    assert "quickstart" in names


def test_wheel_has_the_console_script_and_no_strays(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "collapse-sim = collapse_sim.__main__:main" in archive.read(entry).decode()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"collapse_sim"}
    assert "collapse_sim/py.typed" in names
    for name in ("report.html", "report.md", "report.css", "report.js"):
        assert f"collapse_sim/analysis/report/templates/{name}" in names


def test_the_readmes_recipe_loads(tmp_path):
    from collapse_sim.recipe.loader import load

    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    path = tmp_path / "readme.yaml"
    path.write_text(block)
    recipe = load(path)
    assert [arm.name for arm in recipe.arms] == ["replace", "accumulate", "distill"]


def test_the_readmes_recipe_runs_as_printed(tmp_path, monkeypatch, capsys):
    """Without any file beside it; shortened, as its fits take half a minute."""
    from collapse_sim.cli.app import run_app

    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text(block)
    assert run_app(["recipes", "validate", "my.yaml"]) == 0
    assert run_app(["run", "my.yaml", "--dry-run"]) == 0
    short = ["--set", "train.steps=3", "--generations", "1", "--seed", "0"]
    assert run_app(["run", "my.yaml", "-q", *short]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "runs/my-experiment"


def test_the_readme_links_to_what_is_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_constraints_name_no_place():
    text = (ROOT / "constraints.txt").read_text()
    assert not re.search(r"@|://|--", text)
