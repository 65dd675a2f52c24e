"""`bench`: what a run would take, for people and as JSON; nothing that a run reads is made or changed."""

from __future__ import annotations

import os
import signal

import pytest

from collapse_sim.engine import fit
from tests.cli.toys import POINTS

QUICK = ("--seconds", "0.1")


def test_json_is_one_document_whose_parts_add_up(shell, recipe):
    """Two arms, generations 0 and 1, two seeds; generation 0 counts for the first arm."""
    name = recipe(("[0]", "[0, 1]"))
    before = shell.files()
    done = shell("bench", name, *QUICK, "--json")
    result = done.json
    assert shell.files() == before
    assert (result["schema"], result["name"], result["seeds"]) == (1, "tiny", [0, 1])
    assert result["artefacts"] == {"to_make": 1 + 2 * 3 * 3, "reused": 0}
    assert [entry["generation"] for entry in result["arms"]["replace"]] == [0, 1]
    first, second = result["arms"]["accumulate+distill"]
    assert first["seconds"] == 0 < second["seconds"]
    cells = [entry["seconds"] for entries in result["arms"].values() for entry in entries]
    assert result["seconds"] == pytest.approx(result["shared_seconds"] + sum(cells))
    assert [one["what"] for one in result["measured"]] == [
        "data: digits", "fit: vae, batches of 32", "samples: vae", "scores: test_loss",
        "fit: vae, batches of 32, taught",
    ]  # fmt: skip
    assert (result["not_measured"], result["without"]) == ([], {})
    assert result["memory"]["peak_bytes"] >= result["memory"]["before_bytes"] > 0
    assert result["bytes_to_come"] == shell("run", name, "--dry-run", "--json").json["bytes_to_come"]
    assert "measuring fit: vae, batches of 32\n" in done.err


def test_twice_the_seeds_and_updates_cost_twice_as_much(shell, recipe, monkeypatch):
    """At rates that are given: the sum, and not how long this machine takes."""
    from collapse_sim.plan.costs import Rate, kind_of_spec
    from collapse_sim.run.bench import Bench

    rates = {"data": Rate(0.0), "fit": Rate(0.5), "samples": Rate(0.01), "scores": Rate(0.25)}
    monkeypatch.setattr(
        Bench, "run", lambda self: {kind_of_spec(spec): rates[spec.kind] for spec in self.experiment.specs()}
    )
    name = recipe()
    cell_s = 20 * 0.5 + 150 * 0.01 + 0.25
    assert shell("bench", name, "--json").json["seconds"] == pytest.approx(3 * cell_s)
    found = shell(
        "bench", name, "--json", "--seed", "4", "--seed", "5", "--generations", "3", "--set", "train.steps=40"
    ).json
    assert found["seconds"] == pytest.approx(2 * 7 * (cell_s + 20 * 0.5))
    assert shell("bench", name, "--json", "--arm", "replace").json["seconds"] == pytest.approx(2 * cell_s)


def test_what_is_stored_is_taken_off(shell, recipe):
    name = recipe()
    shell("run", name, "-q")
    done = shell("bench", name, *QUICK)
    assert "time:   nothing is left to make\n" in done.out
    more = shell("bench", name, *QUICK, "--generations", "2", "--arm", "replace", "--json").json
    assert more["artefacts"] == {"to_make": 3, "reused": 7}
    assert [entry["seconds"] > 0 for entry in more["arms"]["replace"]] == [False, False, True]
    assert shell("bench", name, *QUICK, "--store", "another", "--json").json["artefacts"]["reused"] == 0


def test_text_for_people(shell, recipe):
    out = shell("bench", recipe(), *QUICK, "-q").out
    lines = out.splitlines()
    assert lines[0].startswith("tiny on cpu (")
    assert lines[0].endswith(": 1 seed")
    (row,) = (line for line in lines if line.startswith("fit: vae, batches of 32 "))
    assert row.split()[-6:-4] + row.split()[-3:] == ["per", "update,", *row.split()[-3:-2], "per", "evaluation"]
    (head,) = (line for line in lines if line.startswith("time to come"))
    assert head.split() == ["time", "to", "come", "gen.", "0", "gen.", "1", "all"]
    assert any(line.startswith("time:   about ") for line in lines)
    assert any(line.startswith("memory: ") for line in lines)
    assert any(line.startswith("disk:   about ") for line in lines)


def test_many_generations_fit_on_a_line(shell, recipe):
    out = shell("bench", recipe(text=POINTS), *QUICK, "-q", "--generations", "50").out
    (head,) = (line for line in out.splitlines() if line.startswith("time to come"))
    assert head.split()[3:] == ["gen.", "0", "gen.", "1", "gen.", "2", "gen.", "3", "gen.", "50", "all"]
    assert "fit: gaussian" in out


def test_an_interruption_ends_it(shell, recipe, monkeypatch):
    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise KeyboardInterrupt

    monkeypatch.setattr(fit.SingleStep, "take", interrupted)
    done = shell("bench", recipe(), *QUICK, code=130)
    assert done.out == ""
    assert done.err.endswith("interrupted; nothing of a measurement is kept\n")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["nowhere"], 2, "nowhere"),
        (["r.yaml", "--seconds", "0"], 2, "'--seconds'"),
        (["r.yaml", "--seconds", "nan"], 2, "'--seconds'"),
        (["r.yaml", "--ensemble", "many"], 2, "--ensemble many: allowed: auto, off"),
        (["r.yaml", "--arm", "none"], 2, "none"),
        (["r.yaml", "--set", "data=mnist"], 3, "mnist"),
        (["r.yaml", "--device", "tpu"], 2, "--device tpu"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(shell, recipe, monkeypatch, words, code, text):
    from collapse_sim.run import bench

    monkeypatch.setattr(bench, "Store", None)
    recipe()
    assert text in shell.refused("bench", *words, code=code)


def test_own_samples_of_networks_have_a_unit(shell, recipe):
    arm = "arms.replace={data: replace, merge: {use: neon, w: 0.5}}"
    result = shell("bench", recipe(), *QUICK, "--set", arm, "--arm", "replace", "--json").json
    assert {one["what"]: one["unit"] for one in result["measured"]}["samples: vae"] == "row"
    assert result["not_measured"] == ["merge: vae: only a run makes it"]
