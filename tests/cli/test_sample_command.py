"""`sample` on a small finished run: repeatable rows, in formats that fit the data."""

from __future__ import annotations

import importlib.util

import datasets
import numpy as np
import pytest
from PIL import Image

from tests.cli.toys import REGRESSION
from tests.run.small_molecules import CONFORMATIONS


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
    shell("run", recipe(("name: lines", "name: toy"), ("rows: 30", "rows: 20"), text=REGRESSION), "-q")
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


def test_rows_of_a_conditional_model_have_labels_however_many(shell, recipe, tmp_path):
    """The labels of real rows, again from the beginning where they are used up."""
    shell("run", recipe(("hidden: 16", "conditional: true, hidden: 16")), "-q")
    shell("sample", "tiny", "--out", "rows.npz", "--rows", 450)
    rows = np.load(tmp_path / "rows.npz")
    assert rows["image"].shape == (450, 1, 8, 8)
    np.testing.assert_array_equal(rows["label"][:200], rows["label"][200:400])
    assert set(rows["label"].tolist()) == set(range(10))


def test_conformations_are_sampled_exported_and_scored_again(shell, recipe, tmp_path):
    """Rows of a kind without pictures or texts: arrays and datasets, and no other format."""
    shell("run", recipe(text=CONFORMATIONS), "-q")
    shell("sample", "molecules", "--out", "rows.npz", "--rows", 6)
    rows = np.load(tmp_path / "rows.npz")
    assert set(rows) == {"positions", "atoms", "bonds", "molecule"}
    assert rows["positions"].shape == (6, 3, 3)
    assert "not for data of kind molecules; allowed: .npz" in shell("sample", "molecules", "--out", "x.png", code=2).err
    refused = shell.refused("export", "molecules", "--to", "new", "--samples", "png", code=2)
    assert "--samples png: molecules make no pictures; allowed: npz, dataset, none" in refused
    shell("export", "molecules", "--to", "here", "--samples", "dataset")
    stored = datasets.load_from_disk(tmp_path / "here" / "dataset")
    assert len(stored) == 16
    assert np.asarray(stored[0]["positions"]).shape == (3, 3)
    done = shell("evaluate", "molecules", "--metric", "bond_angles", "--json").json
    assert done["made"] > 0
    assert "is for data of points" in shell("evaluate", "molecules", "--metric", "sliced_w2", code=2).err


def test_curations_of_vectors_refuse_conformations(shell, recipe):
    axes = ("replace: {data: replace}", "replace: {data: replace, curation: diversity}")
    message = shell.refused("run", recipe(axes, text=CONFORMATIONS), code=2)
    assert "arms.replace.curation: it compares rows by their distances" in message


def test_conformations_need_rdkit(shell, recipe, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = shell.refused("run", recipe(text=CONFORMATIONS), code=3)
    assert "the package rdkit is not installed: pip install 'collapse-sim[molecules]'" in message
