"""`--plugins` and `--no-plugins` on the command line, and what is found again after a class was edited."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest

TOY = """\
name: toy
data: {use: gaussian, rows: 20, held_out_rows: 20}
model: gaussian
generations: 1
seeds: 1
arms: {replace: {data: "own_strategy:Own"}}
metrics: [variance_ratio]
"""
OWN = """\
from pathlib import Path
from collapse_sim.plan.strategies import Replace
Path("imported").touch()
class Own(Replace): pass
"""


@pytest.fixture(autouse=True)
def _own_module(shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("r.yaml").write_text(TOY)
    Path("own_strategy.py").write_text(OWN)
    forget()


def forget() -> None:
    """As a new process would find it."""
    sys.modules.pop("own_strategy", None)
    importlib.invalidate_caches()
    Path("imported").unlink(missing_ok=True)


def test_every_command_that_reads_a_recipe_can_be_kept_from_importing(shell):
    for words in (["recipes", "validate", "r.yaml"], ["run", "r.yaml"], ["run", "r.yaml", "--dry-run"]):
        said = shell(*words, "--no-plugins", code=2).err
        assert "r.yaml:6: arms.replace.data.use: 'own_strategy:Own' is not imported: --no-plugins allows" in said
        assert not Path("imported").exists()


def test_a_run_directory_is_trusted_where_it_was_made_and_nowhere_else(shell):
    shell("run", "r.yaml", "-q", "--device", "cpu")
    shell("export", "toy", "--to", "mine")
    shutil.copytree("runs", "elsewhere")
    forget()
    after = {
        "evaluate": ["elsewhere/toy", "--metric", "w2", "--device", "cpu", "-q"],
        "sample": ["elsewhere/toy", "--out", "x.npz", "--device", "cpu"],
        "export": ["elsewhere/toy", "--to", "theirs"],
    }
    for command, words in after.items():
        said = shell(command, *words, code=2).err
        assert "'own_strategy:Own' is not imported: elsewhere/toy was not made by a run of yours" in said
        assert "use --plugins" in said
    assert "is not imported" in shell("run", "elsewhere/toy/recipe.yaml", code=2).err
    assert not Path("imported").exists()
    for command, words in after.items():
        shell(command, *words, "--plugins")
    assert Path("imported").exists()


def test_an_edited_class_finds_nothing_and_the_old_one_finds_all(shell):
    """What an arm's strategy plans is in keys by its rows, so the class here is the data's."""
    data = "from collapse_sim.data.toys.gaussian_points import GaussianPoints\nclass Own(GaussianPoints): pass\n"
    Path("own_strategy.py").write_text(data)
    text = TOY.replace("use: gaussian", "use: 'own_strategy:Own'").replace('"own_strategy:Own"', "replace")
    Path("r.yaml").write_text(text)

    def run() -> tuple[int, int]:
        forget()
        done = shell("run", "r.yaml", "--json", "-q", "--device", "cpu", "--out", f"runs/{run.times}").json
        run.times += 1
        return done["made"], done["reused"]

    run.times = 0
    made = run()[0]
    assert made > 0
    assert run() == (0, made)
    Path("own_strategy.py").write_text(data + "# another\n")
    assert run() == (made, 0)
    Path("own_strategy.py").write_text(data)
    assert run() == (0, made)
