"""`run --on`: what is allowed is checked before anything is read, and what a dry run then shows."""

from __future__ import annotations

import pytest

from collapse_sim.cli.on_option import planned_processes
from collapse_sim.core.errors import RecipeError
from collapse_sim.run import process_count


def test_the_number_of_processes_that_a_dry_run_is_about():
    assert planned_processes("processes:10000", {}, dry_run=True) == 10_000
    for on in (None, "here", "processes", "ray"):
        assert planned_processes(on, {}, dry_run=True) == 0
    assert planned_processes("processes:2", {}, dry_run=False) == 0
    with pytest.raises(RecipeError, match="--on processes:300: allowed: processes:N, N from 1 to 256, or processes"):
        planned_processes("processes:300", {}, dry_run=False)
    with pytest.raises(RecipeError, match="not with torchrun"):
        planned_processes("processes:2", {"WORLD_SIZE": "2"}, dry_run=True)


def test_the_command_refuses_a_wrong_place_before_it_reads_anything(shell):
    said = shell.refused("run", "no-such.yaml", "--on", "processes:0", code=2)
    assert said.startswith("error: --on processes:0: allowed: processes:N, N from 1 to 256, or processes, ")
    assert shell.refused("run", "no-such.yaml", "--dry-run", "--on", "ten", code=2).startswith("error: --on ten: ")


def test_a_plan_says_how_many_processes_the_run_would_use(shell, recipe, monkeypatch):
    """If they are more than one: with 20 s of work, on cores that nobody has shared out."""
    monkeypatch.setattr(process_count, "usable_cores", lambda: 2)
    smoke = ("metrics: [test_loss]", "metrics: [test_loss]\nsmoke: {train.batch_size: 16}")
    name, line = (
        recipe(("steps: 20", "steps: 9000"), smoke),
        "\nprocesses: 2, this one and 1 more that it starts (--on here",
    )
    words = ["run", name, "--dry-run", "-q", "--seed", "0", "--seed", "1"]
    assert "\nprocesses: " not in shell(*words).out
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert line in shell(*words).out
    assert shell(*words, "--json").json["processes"] == 2
    assert "processes" not in shell(*words, "--on", "here", "--json").json
    assert "\nprocesses: " not in shell(*words, "--set", "train.steps=20").out
    assert line in shell(*words, "--set", "train.steps=20", "--on", "processes").out, "asked for"
    assert "\nprocesses: " not in shell(*words, "--smoke").out


def test_a_dry_run_shows_what_so_many_processes_would_do(finished, recipe):
    """By what earlier artefacts took; nothing is measured, and nothing changes."""
    before = finished.files()
    words = ["run", "r.yaml", "--dry-run", "--seed", "1", "--seed", "2", "--on"]
    plan = finished(*words, "processes:2", "--json").json
    work = plan["on"]["work"]
    assert plan["on"]["measured"] == []
    assert plan["on"]["without"] == {}
    jobs = {kind: sum(own["jobs"].get(kind, 0) for own in work) for own in work for kind in own["jobs"]}
    assert jobs == {"fit": 6, "samples": 6, "scores": 6}, "two seeds; generation 0 is shared"
    assert plan["on"]["one_process_seconds"] == pytest.approx(sum(own["seconds"] for own in work), abs=0.2)
    assert plan["on"]["longest_chain_seconds"] <= plan["on"]["seconds"] <= plan["on"]["one_process_seconds"]
    done = finished(*words, "processes:9", "-q")
    assert "\n\non 9 processes, each on cores or a GPU of its own: about " in done.out
    busy = 9 - done.out.count(": idle\n")
    assert 4 <= busy < 9
    assert f"  no more than {busy} have work at one time\n" in done.out
    assert finished.files() == before
