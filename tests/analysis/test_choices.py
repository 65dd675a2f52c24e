from __future__ import annotations

from pathlib import Path

import pytest

from collapse_sim.analysis.choices import check_cells, checked_names, chosen_generations, labelled
from collapse_sim.analysis.results import read_results
from collapse_sim.core.errors import RecipeError

from .conftest import WriteRun

SCORES = {"a": {"loss": [[1.0], [2.0], [3.0]]}, "b": {"loss": [[1.0], [2.0]]}}


def test_names_are_checked_all_at_once() -> None:
    assert checked_names("metric", ["fid", "loss", "fid"], ["loss", "fid"], "there are") == ["fid", "loss"]
    with pytest.raises(RecipeError) as error:
        checked_names("metric", ["fdi", "x"], ["loss", "fid"], "there are")
    assert error.value.problems == (
        "metric: there is no 'fdi', did you mean 'fid'?; there are: loss, fid",
        "metric: there is no 'x'; there are: loss, fid",
    )


@pytest.mark.parametrize(
    ("asked", "chosen"), [(None, None), ("all", None), ("last", [1]), (2, [2]), ("2", [2])], ids=str
)
def test_generations(write_run: WriteRun, asked: str | int | None, chosen: list[int] | None) -> None:
    assert chosen_generations(asked, read_results(write_run(SCORES, seeds=[0])), ["loss"]) == chosen


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (3, r"^generation: generation 3 has no scores \(the recipe ends at 2\); scored are: 0, 1, 2$"),
        ("first", "^generation: 'first' is not a generation; allowed: a number, 'last', 'all'$"),
        (-1, "^generation: -1 is not a generation"),
    ],
    ids=str,
)
def test_generations_that_are_not_there(write_run: WriteRun, asked: str | int, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        chosen_generations(asked, read_results(write_run(SCORES, seeds=[0])), ["loss"], "generation")


def test_cells_name_what_there_is(write_run: WriteRun) -> None:
    results = read_results(write_run(SCORES, seeds=[4]))
    check_cells(results, ["a"], [2], [4])
    with pytest.raises(RecipeError) as error:
        check_cells(results, ["c"], [3], [0])
    assert error.value.problems == (
        "--arm c: no such arm; allowed: a, b",
        "--generation 3: this run has generations 0 to 2",
        "--seed 0: this run has seeds 4",
    )


def test_runs_of_one_name_are_called_after_their_folders(write_run: WriteRun) -> None:
    folders = {name: write_run(SCORES, name=name, folder=f"{name}-{i}", seeds=[0]) for i, name in enumerate("xy")}
    again = write_run(SCORES, name="x", folder="again", seeds=[0])
    read = {folder: read_results(folder) for folder in (*folders.values(), again)}
    assert labelled(read) == {str(folders["x"]): folders["x"], "y": folders["y"], str(again): again}
    assert all(isinstance(folder, Path) for folder in labelled(read).values())
