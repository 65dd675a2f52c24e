"""`collapse-sim compare --against`, as a user calls it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.analysis.conftest import WriteRun
from tests.analysis.grids import arm, grid_run, map_arms, share_of
from tests.cli.conftest import Shell
from tests.cli.toys import POINTS
from tests.conftest import changed

WEIGHT, SHARE = "teacher.weights.output", "data.real"


@pytest.fixture
def toy(write_run: WriteRun, shell: Shell) -> Shell:
    arms = {**map_arms([0.0, 0.5], [0.1, 1.0]), "replace": arm()}
    grid_run(write_run, arms, lambda own, k: 1.0 + k * share_of(own))
    return shell


def test_the_table_is_at_the_generation_that_was_asked_for(toy: Shell) -> None:
    assert "teacher.weights.output at generation 2: mean" in toy("compare", "toy", "--against", WEIGHT).out
    assert "at generation 1: mean" in toy("compare", "toy", "--against", WEIGHT, "--generation", "1").out


def test_json_csv_and_tables_for_papers(toy: Shell) -> None:
    against = ("compare", "toy", "--against", SHARE, "--against", WEIGHT)
    document = toy(*against, "--json").json
    assert document["against"] == [SHARE, WEIGHT]
    plain = toy("compare", "toy", "--json").json["arms"]
    for cell in document["metrics"]["loss"]["cells"]:
        assert cell["mean"] == plain[cell["arm"]]["loss"][cell["generation"]]["mean"]
    assert len(list(csv.DictReader(toy(*against, "--csv").out.splitlines()))) == 4
    assert "\\toprule" in toy(*against, "--latex").out
    assert f"| {WEIGHT} \\\\ {SHARE} |" in toy(*against, "--markdown").out


def test_one_arm_of_a_grid(toy: Shell) -> None:
    cells = toy("compare", "toy", "--against", WEIGHT, "--arm", "mix", "--json").json["metrics"]["loss"]["cells"]
    assert {cell["arm"].split()[0] for cell in cells} == {"mix"}


SHARES = [word for share in (0.0, 0.5) for word in ("--arm", f"mix real={share} output=0.1")]


@pytest.mark.parametrize(
    "options",
    [
        ["--against", WEIGHT],
        ["--against", SHARE, "--against", WEIGHT],
        ["--against", "generation", "--against", SHARE, *SHARES],
    ],
)
def test_plots(toy: Shell, options: list[str]) -> None:
    done = toy("compare", "toy", *options, "--plot", "map.png", "--size", "column")
    assert "plot: map.png" in done.err
    with Image.open("map.png") as picture:
        assert picture.text["Title"] == "toy"
        assert picture.width == pytest.approx(3.4 * 300, abs=2)


def test_an_unfinished_run_says_so(write_run: WriteRun, shell: Shell) -> None:
    arms = map_arms([0.0, 0.5], [0.1])
    scores = {name: {"loss": [[1.0, 1.1]]} for name in arms}
    write_run(scores, name="part", seeds=[0, 1], generations=4, settings={"arms": arms})
    assert "part: has reached generation 0; the recipe goes to 4" in shell("compare", "part", "--against", SHARE).err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--against", "data.reel"], "no arms differ in 'data.reel', did you mean 'data.real'?; the arms vary: "),
        (["--arm", "mix"], "--arm: is for --against SETTING"),
        (["--collapse-at", "2"], "--collapse-at: is for --against SETTING"),
        (["--against", SHARE, "--collapse-at", "two"], "--collapse-at: found 'two'; allowed: a number"),
        (["--against", SHARE, "--generation", "all"], "--generation all: choose one generation"),
        (["--against", SHARE, "--against", "generation", "--generation", "1"], "--against generation shows all"),
        (["--against", SHARE, "--generation", "7"], "generation 7 has no scores"),
        (["--against", SHARE, "--arm", "mux"], "--arm: there is no 'mux', did you mean 'mix'?"),
        (["--against", SHARE, "--baseline", "replace"], "--baseline: changes nothing with --against"),
        (["--against", SHARE, "--all"], "--all: changes nothing with --against"),
        (["--against", SHARE, "--plot", "map.gif"], "--plot: map.gif: the suffix selects the format"),
    ],
)
def test_bad_input_changes_nothing(toy: Shell, options: list[str], message: str) -> None:
    assert message in toy.refused("compare", "toy", *options, code=2)


def test_a_limit_is_of_one_metric(write_run: WriteRun, shell: Shell) -> None:
    arms = map_arms([0.0, 0.5], [0.1])
    write_run(
        {name: {"loss": [[1.0, 1.1]], "fid": [[1.0, 1.1]]} for name in arms}, seeds=[0, 1], settings={"arms": arms}
    )
    message = shell.refused("compare", "toy", "--against", SHARE, "--collapse-at", "0.9", code=2)
    assert "--collapse-at 0.9: is a limit of one metric; add --metric NAME (the run measures loss, fid)" in message
    assert shell("compare", "toy", "--against", SHARE, "--collapse-at", "2x").out


def test_a_real_run_has_the_settings_of_its_grid(shell: Shell) -> None:
    grid = "mix:\n    data: {use: mix}\n    grid: {data.real: [0.0, 0.5], data.synthetic: [0.5, 1.0]}"
    Path("r.yaml").write_text(changed(POINTS, ("arms: {replace: {data: replace}}", f"arms:\n  {grid}")))
    shell("run", "r.yaml", "-q")
    document = shell("compare", "points", "--against", SHARE, "--against", "data.synthetic", "--json").json
    assert document["values"] == {SHARE: [0.0, 0.5], "data.synthetic": [0.5, 1.0]}
    cells = document["metrics"]["variance_ratio"]["cells"]
    journal = json.loads((shell.root / "runs" / "points" / "run.json").read_text())["theory"]
    assert [cell["theory"] for cell in cells] == [journal[cell["arm"]]["variance_ratio"][1] for cell in cells]
    assert len(cells) == 4
