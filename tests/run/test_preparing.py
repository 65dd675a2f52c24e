from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.run.preparing import RunOptions
from collapse_sim.store.run_directory import STARTING_FILE
from tests.conftest import SMALL

MAPPING = {"name": "mine", "data": {"use": "digits"}}


@pytest.mark.parametrize(
    ("recipe", "settings", "smoke", "folder"),
    [
        ("quickstart", (), False, "runs/quickstart"),
        ("quickstart", (), True, "runs/quickstart-smoke"),
        ("quickstart", ["name = other", "samples=3"], False, "runs/other"),
        ("quickstart", {"name": "other"}, False, "runs/other"),
        (MAPPING, (), True, "runs/mine-smoke"),
        (MAPPING, {"name": "other"}, False, "runs/other"),
        ({"data": {}}, (), False, None),  # what is wrong is said when the recipe is loaded
        ({"name": "a/../b"}, (), False, None),
        ({"name": 3}, (), False, None),
        ("no-such-recipe", (), False, None),
    ],
    ids=str,
)
def test_the_folder_is_known_before_the_recipe_is_loaded(
    recipe: str | Mapping[str, Any], settings: Sequence[str] | Mapping[str, Any], smoke: bool, folder: str | None
) -> None:
    options = RunOptions(recipe, settings=settings, smoke=smoke)
    assert options.early_folder() == (None if folder is None else Path(folder))
    assert RunOptions(recipe, settings=settings, out=Path("there")).early_folder() == Path("there")


def test_that_it_starts_is_shown_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SMALL)
    with RunOptions("tiny.yaml", seeds=[4]).session(called=True) as session:
        assert (session.folder / STARTING_FILE).is_file()
        assert session.folder == Path("runs/tiny")
        assert session.store_dir == Path("runs/.store")
        assert session.experiment.recipe.seeds == (4,)
        assert session.called
    with RunOptions("tiny.yaml").session(early=False):
        assert not Path("runs").exists()
    with pytest.raises(RecipeError), RunOptions("tiny.yaml", seeds=[-4]).session():
        pass
    assert not Path("runs").exists()
