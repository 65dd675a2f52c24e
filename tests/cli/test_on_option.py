"""`run --on`: what is allowed is checked before anything is read, and what a dry run then shows."""

from __future__ import annotations

import pytest

from collapse_sim.cli.on_option import check_on, processes_of
from collapse_sim.core.errors import RecipeError


@pytest.mark.parametrize(("text", "count"), [("processes:1", 1), ("processes:10000", 10_000)])
def test_a_number_of_processes(text: str, count: int) -> None:
    assert processes_of(text) == count


@pytest.mark.parametrize(
    "text", ["", "processes", "processes:", "processes:0", "processes:10001", "processes:-1", "x:2"]
)
def test_other_places_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=f"--on {text}: allowed: processes:N, N from 1 to 10,000"):
        check_on(text, dry_run=True, ranks=False)


def test_it_is_for_plans_of_one_process() -> None:
    check_on(None, dry_run=False, ranks=True)
    check_on("processes:2", dry_run=True, ranks=False)
    with pytest.raises(
        RecipeError, match="start the same command so many times, with one store; with --dry-run it shows"
    ):
        check_on("processes:2", dry_run=False, ranks=False)
    with pytest.raises(RecipeError, match="not with torchrun"):
        check_on("processes:2", dry_run=True, ranks=True)


def test_the_command_refuses_it_before_it_reads_anything(shell):
    assert shell.refused("run", "no-such.yaml", "--on", "processes:2", code=2).startswith("error: --on processes:2: ")
    assert shell.refused("run", "no-such.yaml", "--dry-run", "--on", "ten", code=2).startswith("error: --on ten: ")


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
