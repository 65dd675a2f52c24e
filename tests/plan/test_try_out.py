"""Functions of rows that a recipe names are called before anything is made."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
import torch

from collapse_sim.core.errors import RecipeError
from collapse_sim.plan.experiment import prepare
from collapse_sim.plan.try_out import check_function, shuffled_values, try_functions
from collapse_sim.recipe.loader import load

MINE = """
import torch
def first(rows):
    print("called")
    return next(iter(rows.values())).double().flatten(1)[:, 0]
def bad_shape(rows):
    return next(iter(rows.values()))
def broken(rows):
    raise RuntimeError("no")
def undecided(rows):
    return first(rows) * float("nan")
def constant(rows):
    return torch.ones(len(next(iter(rows.values()))))
def plausible(rows):
    return (rows["x"].abs() < 5).all(1).double()
def strict(rows):
    if bool((rows["x"].abs() > 5).any()):
        raise ValueError("out of range")
    return torch.ones(len(rows["x"]))
"""
POINTS = "{use: gaussian, dimensions: 2, rows: 40, held_out_rows: 10}"
DIGITS = "{use: digits, rows: 40, held_out_rows: 10}"
GRAMMAR = "{use: grammar, rows: 40, held_out_rows: 10}"
RECIPE = """
data: DATA
model: MODEL
TRAIN
generations: 1
seeds: [0]
arms:
  plain: {data: replace}
  own: {data: replace, curation: RULE}
metrics: [test_loss]
"""
TRAIN = "train: {steps: 2, batch_size: 16, evaluate: never}"
KINDS = {
    "points": (POINTS, "gaussian", ""),
    "images": (DIGITS, "{use: vae, hidden: 4, latent: 2}", TRAIN),
    "texts": (GRAMMAR, "{use: causal_lm, preset: tiny, width: 8, layers: 1}", TRAIN),
}


@pytest.fixture(autouse=True)
def _mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_scores.py").write_text(MINE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("my_scores", None)
    importlib.invalidate_caches()


def recipe(rule, kind="points"):
    text = RECIPE
    for name, value in zip(("DATA", "MODEL", "TRAIN"), KINDS[kind], strict=True):
        text = text.replace(name, value, 1)
    return text.replace("RULE", json.dumps(rule))


def verify(name):
    return {"use": "verify", "score": f"my_scores:{name}"}


def luce(name):
    return {"use": "luce", "reward": {"kind": f"my_scores:{name}"}}


@pytest.mark.parametrize("rule", [verify, luce])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bad_shape", r"my_scores:bad_shape gave a tensor of (8, 2); needed: a tensor of (8,), one number per row"),
        ("broken", "my_scores:broken raised RuntimeError: no"),
        ("undecided", "my_scores:undecided is nan for 8 of 8 real rows that it was tried on"),
        ("constant", "my_scores:constant is 1 for all of 8 real rows, and of as many with their values shuffled"),
    ],
)
def test_a_function_that_cannot_be_used_ends_the_run_before_anything_is_made(sandbox, rule, name, message):
    with pytest.raises(RecipeError) as caught:
        sandbox.run(recipe(rule(name)))
    assert message in str(caught.value)
    assert "recipe.yaml:9: arms.own.curation: " in str(caught.value)
    assert not (sandbox.root / ".store").exists()
    assert not (sandbox.root / "run").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_called_with_rows_of_the_familys_columns(sandbox, kind, capsys):
    experiment = prepare(load(sandbox.recipe(recipe(verify("first"), kind))), sandbox.root)
    try_functions(experiment, sandbox.root)
    assert capsys.readouterr().out == ""  # stdout is the command's data


@pytest.mark.parametrize("name", ["plausible", "strict"])
def test_real_rows_may_all_have_the_same_score(name):
    """A verifier that rejects only what is wrong, and one that raises for it."""
    check_function(f"my_scores:{name}", {"x": torch.linspace(-4, 4, 16, dtype=torch.float64).reshape(8, 2)})


def test_shuffled_values():
    rows = {"x": torch.arange(6.0).reshape(3, 2), "label": torch.arange(3)}
    shuffled = shuffled_values(rows)
    assert sorted(shuffled["x"].flatten().tolist()) == [0, 3, 6, 9, 12, 15]
    assert sorted(shuffled["label"].tolist()) == [0, 1, 2]
