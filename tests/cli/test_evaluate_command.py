"""evaluate and sample on a small finished run."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from tests.conftest import TINY

TOY = """
name: toy
data: {use: linear, dimensions: 3, rows: 20}
model: {use: linear}
generations: 1
seeds: 3
arms: {replace: {data: replace}}
metrics: [excess_test_error]
"""


@pytest.fixture
def finished(shell, recipe):
    shell("run", recipe(), "-q")
    return shell


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


def test_samples_are_repeatable_and_new(finished, tmp_path):
    stored = [np.load(tmp_path / name)["image"] for name in ("a.npz", "b.npz", "c.npz") if drawn(finished, name)]
    assert stored[0].shape == (10, 1, 8, 8)
    assert stored[0].dtype == np.uint8
    np.testing.assert_array_equal(stored[0], stored[1])
    assert not np.array_equal(stored[0], stored[2])
    finished("export", "tiny", "--to", "here", "--generation", "0")
    assert not np.array_equal(np.load(tmp_path / "here" / "samples.npz")["image"][:10], stored[0])


def drawn(shell, name):
    seed = "1" if name.startswith("c") else "0"
    return shell("sample", "tiny", "--out", name, "--rows", 10, "--generation", 0, "--draw-seed", seed)


def test_sample_as_a_picture(finished, tmp_path):
    finished("sample", "tiny", "--out", "grid.png", "--rows", 9)
    with Image.open(tmp_path / "grid.png") as picture:
        assert min(picture.size) > 24


def test_sample_of_conditional_data(shell, recipe, tmp_path):
    shell("run", recipe(text=TOY), "-q")
    shell("sample", "toy", "--out", "rows.npz", "--rows", 5, "--seed", 1)
    rows = np.load(tmp_path / "rows.npz")
    assert rows["x"].shape == (5, 3)
    assert rows["y"].shape == (5,)
    assert "at most 20" in shell("sample", "toy", "--out", "rows.npz", "--rows", 21, code=2).err
    for name in ("rows.png", "rows.txt", "rows.jsonl"):
        text = shell("sample", "toy", "--out", name, code=2).err
        assert f"--out {name}: not for data of kind regression; allowed: .npz\n" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arm", "replce"], "no such arm, did you mean 'replace'?"),
        (["--generation", "7"], "this run has generations 0 to 1"),
        (["--seed", "9"], "this run has seeds 0"),
        (["--out", "x.gif"], "allowed: .npz, .png, .jsonl, .txt"),
    ],
)
def test_what_is_not_there(finished, options, message):
    words = ["sample", "tiny", *(["--out", "x.npz"] if "--out" not in options else []), *options]
    assert message in finished(*words, code=2).err


def test_a_run_that_has_not_begun(shell, recipe):
    assert "no run here" in shell("evaluate", "nothing", "--metric", "vendi", code=2).err
    assert TINY
