"""`collapse-sim status` on made-up run directories: what it says while a process is at the run, and afterwards."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from collapse_sim.core.errors import RecipeError
from collapse_sim.core.events import JobFinished, RunFinished, TextSamples
from tests.ui.live import FIT, call, gone_pid, write_live


def test_status_of_a_run_that_nobody_is_at(run_folder):
    folder = run_folder(done=1, command=["/somewhere/bin/collapse-sim", "run", "my recipe.yaml", "--seed", "0"])
    text = call("status", folder).stdout
    assert "unfinished: 4 of 6 cells (arm x generation) are done" in text
    assert "continue: collapse-sim run 'my recipe.yaml' --seed 0" in text
    assert "20.00" in text  # fid of generation 1, mean of 10 and 30
    document = json.loads(call("status", folder, "--json").stdout)
    assert document["status"] == "unfinished"
    assert document["arms"]["replace"] == {
        "generations_done": 2,
        "latest": {"test_loss": {"generation": 1, "mean": 2.5}, "fid": {"generation": 1, "mean": 20.0}},
    }
    assert document["process"] is None
    assert document["continue"] == "collapse-sim run 'my recipe.yaml' --seed 0"


def test_status_of_a_finished_run(run_folder):
    folder = run_folder(done=2)
    text = call("status", folder).stdout
    assert "finished: 6 of 6" in text
    assert "continue" not in text
    document = json.loads(call("status", folder, "--json").stdout)
    assert (document["status"], document["continue"]) == ("finished", None)


def test_status_before_anything_is_done_offers_the_kept_recipe(run_folder):
    folder = run_folder(done=-1)
    document = json.loads(call("status", folder, "--json").stdout)
    assert document["status"] == "not started"
    assert document["continue"] == f"collapse-sim run {folder}/recipe.yaml --out {folder}"
    assert "nothing is done yet" in call("status", folder).stdout


def test_status_while_a_process_is_at_it(run_folder):
    folder = run_folder(done=1)
    write_live(folder, JobFinished("fit", "d", 2, ("accumulate",), (0,), False, 1.0), FIT)
    text = call("status", folder).stdout
    assert "fitting · accumulate · generation 2 · seed 7" in text
    assert "generation 2 of 2   fits 1/4" in text
    assert "continue" not in text
    document = json.loads(call("status", folder, "--json").stdout)
    assert document["status"] == "running"
    assert document["process"] == {"pid": os.getpid(), "host": socket.gethostname(), "running": True}
    assert (document["job"]["kind"], document["job"]["done"]) == ("fit", 30)


def test_status_of_a_killed_run(run_folder):
    folder, pid = run_folder(done=1), gone_pid()
    write_live(folder, FIT, pid=pid)
    text = call("status", folder).stdout
    assert f"stopped: process {pid} on {socket.gethostname()} is gone; 4 of 6" in text
    assert "fitting" not in text
    assert json.loads(call("status", folder, "--json").stdout)["process"]["running"] is False


@pytest.mark.parametrize("outcome", ["interrupted", "failed"])
def test_status_says_how_a_run_ended(run_folder, outcome):
    folder = run_folder(done=0)
    write_live(folder, RunFinished("demo", "runs/demo", 3.0, outcome, "the loss is nan"))
    text = call("status", folder).stdout
    assert f"{outcome}: 2 of 6 cells (arm x generation) are done: the loss is nan" in text


@pytest.mark.parametrize("argv", [["status", "nowhere"], ["watch", "nowhere"], ["watch", "nowhere", "--once"]])
def test_no_run_directory_is_an_error(argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="nowhere: no run here"):
        call(*argv)


def test_status_is_quick_and_imports_no_torch(run_folder):
    folder = run_folder(done=1)
    script = (
        "import sys, typer; from collapse_sim.cli.status_command import status; status(sys.argv[1]);"
        "heavy = {'torch', 'numpy', 'matplotlib', 'scipy', 'yaml'} & set(sys.modules); assert not heavy, heavy"
    )
    costs = []
    for _ in range(3):  # the best of three: the machine may have other work
        began = os.times()
        command = [sys.executable, "-c", script, str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2], timeout=60)
        ended = os.times()
        costs.append(ended.children_user + ended.children_system - began.children_user - began.children_system)
        if costs[-1] < 0.5:
            break
    assert min(costs) < 0.5


def test_texts_are_shown_while_it_runs_and_after(run_folder):
    folder = run_folder(done=1)
    texts = [TextSamples(1, arm, (f"written by {arm}",)) for arm in ("replace", "accumulate")]
    write_live(folder, *texts, FIT)
    for argv in (["status", folder], ["watch", folder, "--once"]):
        assert "accumulate  written by accumulate" in call(*argv).stdout
    write_live(folder, *texts, RunFinished("demo", "runs/demo", 3.0, "interrupted"))
    text = call("status", folder).stdout
    assert "samples of generation 1" in text
    assert "replace     written by replace" in text


def test_status_without_a_name_lists_the_runs(run_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("status").stderr == "there are no runs below ./runs\n"
    assert json.loads(call("status", "--json").stdout) == {"schema": 1, "runs": []}
    run_folder(done=2, name="whole", parent=tmp_path / "runs")
    run_folder(done=0, name="begun", parent=tmp_path / "runs")
    (run_folder(done=0, name="spoilt", parent=tmp_path / "runs") / "run.json").write_text("{")
    os.utime(tmp_path / "runs/whole/run.json", (0, 0))
    os.utime(tmp_path / "runs/whole/journal.jsonl", (86400 * 365, 86400 * 365))
    lines = [line.split() for line in call("status").stdout.splitlines()]
    assert [line[:5] for line in lines[1:3]] == [
        ["begun", "unfinished", "2", "of", "6"],
        ["spoilt", "damaged", "-", lines[2][3], lines[2][4]],
    ]
    assert lines[3] == ["whole", "finished", "6", "of", "6", *lines[3][5:]]
    assert lines[3][5].startswith("197")
    rows = json.loads(call("status", "--json").stdout)["runs"]
    assert [(row["run"], row["status"], row["cells_done"]) for row in rows] == [
        ("begun", "unfinished", 2), ("spoilt", "damaged", None), ("whole", "finished", 6),
    ]  # fmt: skip
    assert "damaged" in rows[1]["problem"]


def test_status_offers_what_completes_all_that_was_asked_for(shell, recipe):
    """After parts of a run the last command would not do: the recipe that the run keeps is for all of them."""
    metrics = "metrics: [test_loss, {use: fid, features: pixels, as: distance}]"
    name = recipe(("metrics: [test_loss]", metrics))
    shell("run", name, "-q")
    shell("run", recipe(), "--seed", "5", "--arm", "replace", "-q")
    shell("run", recipe(), "--generations", "2", "--arm", "accumulate+distill", "-q")
    status = shell("status", "tiny", "--json").json
    assert status["status"] == "unfinished"
    assert status["continue"] == "collapse-sim run runs/tiny/recipe.yaml --out runs/tiny"
    shell("run", "runs/tiny/recipe.yaml", "--out", "runs/tiny", "-q")
    status = shell("status", "tiny", "--json").json
    assert (status["status"], status["seeds"], status["generations"]) == ("finished", [0, 5], 3)
    assert list(status["arms"]["replace"]["latest"]) == ["test_loss", "distance"]


def test_status_counts_a_cell_when_all_its_metrics_are_there(shell, recipe):
    """What a sitting for one metric has scored is not all there is to score."""
    shell("run", recipe(), "-q")
    shell("run", recipe(), "-q", "--generations", "2", "--set", "metrics=[{use: fid, features: pixels}]")
    text = shell("status", "tiny").out
    assert "unfinished: 4 of 6 cells (arm x generation) are done" in text
    shell("run", "runs/tiny/recipe.yaml", "--out", "runs/tiny", "-q")
    assert "finished: 6 of 6 cells (arm x generation) are done" in shell("status", "tiny").out
