"""`evaluate` on a small finished run: only new scores are computed, and nothing is ever fitted."""

from __future__ import annotations

import json
import shutil


def test_evaluate_costs_only_the_new_scores(finished):
    before, sessions = finished.artefacts(), len(finished.journal("generation"))
    finished(
        "evaluate", "tiny", "--metric", "{use: fid, features: pixels, as: fid_pixels}", "--metric", "latent_std", "-q"
    )
    made = [line["made"] for line in finished.journal("generation")[sessions:]]
    assert [{kind: n for kind, n in line.items() if n} for line in made] == [{"scores": 2}, {"scores": 4}]
    after = finished.artefacts()
    assert {key: after[key] for key in before} == before
    document = finished("compare", "tiny", "--json").json
    assert list(document["metrics"]) == ["fid_pixels", "latent_std", "test_loss"]
    assert [entry["n"] for entry in document["arms"]["replace"]["fid_pixels"]] == [1, 1]
    assert "test_loss" in finished("verify", "tiny").out or finished("status", "tiny", "--json").json


def test_evaluate_refuses_what_does_not_fit(finished):
    wrong = ("--metric", "vendy", "--metric", "{use: fid, kk: 3}")
    lines = finished("evaluate", "tiny", *wrong, code=2).err.splitlines()
    assert lines[0].startswith("error: --metric vendy: metrics.0.use: unknown 'vendy', did you mean 'vendi'?")
    assert lines[1].startswith("--metric {use: fid, kk: 3}: metrics.1.kk: unknown key 'kk'")
    assert "points" in finished("evaluate", "tiny", "--metric", "w2", code=2).err


def test_evaluate_never_fits(finished, recipe):
    """Neither what a part of the run has left out, nor what was removed from the store."""
    finished("run", recipe(), "--seed", "5", "--arm", "replace", "-q")
    text = finished.refused("evaluate", "tiny", "--metric", "latent_std", code=5)
    assert text == (
        "error: runs/tiny: 2 of its models and samples are not in runs/.store; make them first with:\n"
        "  collapse-sim run runs/tiny/recipe.yaml --out runs/tiny\n"
    )
    finished("run", "runs/tiny/recipe.yaml", "--out", "runs/tiny", "-q")
    finished("evaluate", "tiny", "--metric", "latent_std", "-q")
    shutil.rmtree(finished.folders("samples")[0])
    assert "1 of its models and samples" in finished("evaluate", "tiny", "--metric", "vendi", code=5).err


def test_a_run_that_has_not_begun(shell, recipe):
    assert "no run here" in shell("evaluate", "nothing", "--metric", "vendi", code=2).err


TREE = ("--data", "{use: digits, rows: 200, held_out_rows: 50, validation_rows: 40}")
PIXELS = ("--metric", "{use: coverage, features: pixels}", "--metric", "{use: fid, features: pixels}")


def test_samples_from_elsewhere_are_scored_and_compared(finished):
    """A tree that `export` wrote has the scores of the run that it comes from, and nothing is fitted."""
    finished("export", "tiny", "--to", "exported", "--all")
    table = finished("evaluate", "exported", *TREE, *PIXELS).out
    assert "replace" in table
    assert "accumulate+distill" in table
    finished("evaluate", "tiny", *PIXELS, "-q")
    document = finished("evaluate", "exported", *TREE, *PIXELS, "--json", "--out", "there").json
    expected = finished("compare", "tiny", "--metric", "coverage", "--metric", "fid", "--json").json
    assert document["arms"] == expected["arms"]
    assert {line["made"]["fit"] for line in finished.journal("generation", "exported")} == {0}
    assert finished.journal("session", "exported")[0]["precision"] == "nothing is fitted"
    assert "there is no model: its rows are from files" in finished.refused(
        "sample", "runs/exported", "--out", "s.npz", code=2
    )
    assert "there are no models: all rows are from files" in finished.refused(
        "export", "runs/exported", "--all", "--to", "again", code=2
    )
    finished(
        "evaluate", "runs/exported", "--metric", "{use: vendi, features: pixels}", "-q"
    )  # the run, with another metric
    finished("verify", "runs/exported")
    finished("status", "runs/exported")
    finished("run", "runs/exported/recipe.yaml", "--out", "runs/exported", "--dry-run")


def test_fewer_rows_of_every_file(finished):
    finished("export", "tiny", "--to", "exported", "--all")
    finished("evaluate", "exported", *TREE, *PIXELS, "--rows", 20, "-q")
    (count,) = {json.loads(line)["samples"] for line in [(finished.root / "runs/exported/run.json").read_text()]}
    assert count == 20
    text = finished.refused("evaluate", "exported", *TREE, *PIXELS, "--rows", 200, "--out", "new", code=2)
    assert "samples.npz has 150 rows, but generation 0 has 200" in text
    assert text.startswith("error: exported: arms.replace.rows_from: ")


def test_options_that_belong_together(finished):
    assert "--rows: it is for samples from elsewhere; give their --data" in finished.refused(
        "evaluate", "tiny", *PIXELS, "--rows", 20, code=2
    )
    assert "--out: it is for samples from elsewhere" in finished.refused(
        "evaluate", "tiny", *PIXELS, "--out", "x", code=2
    )
    assert "nowhere: no such folder" in finished.refused("evaluate", "nowhere", *TREE, *PIXELS, code=2)
