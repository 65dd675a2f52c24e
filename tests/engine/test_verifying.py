"""Verifiers: one artefact for all arms and generations that judge by it, and what it decides."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from collapse_sim.core.component import Component
from collapse_sim.core.errors import PluginError, RecipeError
from collapse_sim.engine import artefacts
from collapse_sim.plan.experiment import prepare
from collapse_sim.recipe.loader import load
from collapse_sim.remedies.base import FittedVerifier
from collapse_sim.remedies.random_choice import RandomChoice
from collapse_sim.remedies.row_classifier import RowClassifier

from .curations import DIGITS, HERE, PAIRS, STORIES, TOY, candidates_of

RULE = {"use": "verify", "score": "classifier"}


def test_one_verifier_serves_all_arms_and_generations(curated, sandbox):
    arms = {
        "plain": {"data": "replace"},
        "half": {"data": "replace", "curation": RULE},
        "quarter": {"data": "accumulate", "curation": {**RULE, "keep": 0.25}},
        "past": {"data": "accumulate", "curation": {**RULE, "pool": "past"}},
    }
    plans, store = curated(TOY, 2, **arms)
    (spec,) = {plans[arm][0].verifier for arm in ("half",)}
    for arm in ("half", "quarter", "past"):
        assert plans[arm][0].verifier.digest == spec.digest
        assert all(plan.verifier is None for plan in plans[arm][1:])
        assert all(plan.curation.verified_by.digest == spec.digest for plan in plans[arm] if plan.curation)
    assert plans["plain"][0].verifier is None
    kinds = [json.loads(path.read_text())["kind"] for path in (sandbox.root / ".store").rglob("manifest.json")]
    assert kinds.count("verifier") == 1  # of both seeds

    pool = plans["half"][1].curation
    for seed in (3, 4):
        fitted = artefacts.verifier(store, spec, seed)
        chosen = artefacts.kept(store, pool, seed)["index"]
        rows = np.concatenate([draw["x"] for draw in candidates_of(store, pool, seed)])
        odds = _quadratic(rows, fitted)
        assert odds[chosen].min() > np.delete(odds, chosen).max()


def _quadratic(x: np.ndarray, fitted: FittedVerifier) -> np.ndarray:
    """The regression's log odds of points (n, 2), by hand."""
    t = {name: tensor.numpy() for name, tensor in fitted.tensors.items()}
    a, b = ((x - t["rows/centre"]) / t["rows/spread"]).T
    features = np.stack([a, b, a * a, a * b, b * b], 1)
    standard = (features - t["classifier/mean"]) / t["classifier/scale"]
    return standard @ t["classifier/coefficients"][0] + t["classifier/intercept"][0]


def test_its_quality_is_beside_the_scores(curated, sandbox):
    plans, store = curated(TOY, 2, half={"data": "replace", "curation": RULE})
    expected = [artefacts.verifier(store, plans["half"][0].verifier, seed).report["auc"] for seed in (3, 4)]
    lines = sandbox.journal(event="curation")
    assert len(lines) == 2
    assert all(line["figures"]["classifier_auc"] == expected for line in lines)


@pytest.mark.parametrize("recipe", [DIGITS, STORIES, PAIRS], ids=["images", "texts", "pairs"])
def test_on_every_kind_of_rows(curated, sandbox, recipe):
    plans, _ = curated(recipe, 1, plain={"data": "replace"}, half={"data": "replace", "curation": RULE})
    assert plans["plain"][1].fit.digest != plans["half"][1].fit.digest
    (line,) = sandbox.journal(event="curation")
    assert line["figures"]["classifier_auc"][0] == pytest.approx(0.5, abs=0.5)


def test_keys_name_it_only_where_it_is_used(sandbox):
    def digests(rule):
        text = TOY.format(generations=1, arms=json.dumps({"a": {"data": "replace", "curation": rule}}))
        (plan,) = prepare(load(sandbox.recipe(text)), sandbox.root).arm_plans
        return [spec.digest for spec in plan.generations[1].specs()], plan.generations[0]

    quadratic, generation = digests(RULE)
    assert generation.curation.description["verifier"] == generation.verifier.digest
    assert digests({**RULE, "features": "rbf"})[0] != quadratic
    _, generation = digests({"use": "verify", "score": "truth"})
    assert generation.verifier is None
    assert "verifier" not in generation.curation.description
    assert digests({**RULE, "keep": 1.0})[1].verifier is None


def test_too_few_rows_end_the_run_with_the_numbers(curated):
    few = TOY.replace("rows: 40", "rows: 9", 1)
    with pytest.raises(RecipeError, match="9 samples and 9 real rows are too few"):
        curated(few, 1, half={"data": "replace", "curation": RULE})


class Mine(RandomChoice):
    """With a verifier of a user's own, that may return anything."""

    given: str = "nothing"

    @property
    def verifier(self):
        return Given(given=self.given)


class Given(Component):
    """Returns what a test says."""

    given: str

    def fit(self, pool, draws):
        if self.given == "nothing":
            return None
        seed_of_4 = bool(pool.columns["x"][0, 0] != FIRST["x"]) if FIRST else False
        FIRST.setdefault("x", pool.columns["x"][0, 0])
        value = torch.full(
            (2 if seed_of_4 and self.given == "shapes" else 1,), float("nan" if self.given == "nan" else 1)
        )
        return FittedVerifier({"x": value})


FIRST: dict = {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nothing", "`fit` gave NoneType; needed: a FittedVerifier"),
        ("shapes", "names and shapes that are equal for all seeds"),
        ("nan", "`fit` gave x that is not finite"),
    ],
)
def test_what_a_verifier_may_return(curated, given, message):
    FIRST.clear()
    name = f"{HERE.rpartition('.')[0]}.test_verifying:Mine"
    with pytest.raises(PluginError, match=message):
        curated(TOY, 1, half={"data": "replace", "curation": {"use": name, "given": given}})


def test_the_classifier_is_the_one_that_verify_names():
    assert RowClassifier(features="rbf").describe() == {"use": "RowClassifier", "version": 1, "features": "rbf"}
