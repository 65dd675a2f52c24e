"""Metrics of parts, through the engine: kept beside the score, in the journal under names of their own, in claims."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pytest

from collapse_sim.analysis.results import read_results
from collapse_sim.core.component import Component
from collapse_sim.core.errors import PluginError, RecipeError
from tests.conftest import TINY

ONE_ARM = TINY.replace("  accumulate+distill: {data: accumulate, teacher: {generation: 0, weights:", "#")
SMALL = ONE_ARM.replace("steps: 20", "steps: 5").replace("generations: 2", "generations: 1")
PIXELS = "features: pixels, k: 1"
RECIPE = SMALL.replace("[test_loss]", f"[{{use: class_recall, {PIXELS}}}, {{use: recall, {PIXELS}}}]")


class Wrong(Component):
    """Says that it has two parts, and gives another."""

    kinds: ClassVar[tuple[str, ...] | None] = None
    needs: ClassVar[tuple[str, ...]] = ("samples",)
    better: ClassVar[Literal["lower", "higher"] | None] = None

    def check(self, *args: Any) -> None: ...

    def score(self, evaluation: Any) -> float:
        return 0.0

    def parts(self, info: Any) -> tuple[str, ...]:
        return ("a", "b")

    def score_parts(self, evaluation: Any) -> dict[str, float]:
        return {"a": 1.0, "c": 2.0}

    def sum_up(self, parts: Mapping[str, float]) -> float:
        return 0.0


def score_lines(sandbox) -> list[str]:
    lines = (sandbox.root / "run" / "journal.jsonl").read_text().splitlines()
    return [line for line in lines if '"event":"scores"' in line]


def test_parts_stand_beside_the_score(sandbox):
    sandbox.run(RECIPE)
    results = read_results(sandbox.root / "run")
    parts = [f"class_recall[{label}]" for label in range(10)]
    assert results.metrics_without_parts() == ["class_recall", "recall"]
    assert results.with_parts(["recall", "class_recall"]) == ["recall", "class_recall", *parts]
    assert results.units[parts[3]] == "share of real rows"
    assert results.bounds[parts[3]] == (0.0, 1.0)
    assert results.metrics[parts[3]] == "higher"
    for k in range(2):
        for seed in (0, 1):
            values = [results.scores("replace", part, k)[seed] for part in parts]
            known = [value for value in values if not math.isnan(value)]
            assert results.scores("replace", "class_recall", k)[seed] == min(known)
            recall = results.scores("replace", "recall", k)[seed]
            assert min(known) <= recall <= max(known)
    entry = json.loads((sandbox.root / "run" / "run.json").read_text())["metrics"]["class_recall"]
    assert entry["parts"] == {"names": [str(label) for label in range(10)], "better": "higher", "dead_below": None}
    # What is there is told again without work, in the same lines.
    before = score_lines(sandbox)
    assert sandbox.run(RECIPE)["made"] == 0
    assert score_lines(sandbox) == before


def test_features_that_are_not_finite(sandbox, monkeypatch):
    """Every part is nan, as the score is."""
    from collapse_sim.metrics.feature_maps import Pixels

    monkeypatch.setattr(Pixels, "features", lambda self, model, images: images.flatten(1).float() / 0)
    sandbox.run(RECIPE)
    results = read_results(sandbox.root / "run")
    for name in ("class_recall", "class_recall[0]", "class_recall[9]"):
        assert all(math.isnan(value) for value in results.scores("replace", name, 1).values())


def test_claims_may_be_of_a_part(sandbox):
    claim = "\nclaims: [{{that: x, metric: '{}', expect: replace < 2}}]\n"
    sandbox.run(RECIPE + claim.format("class_recall[3]"))
    assert read_results(sandbox.root / "run").claims[0].metric == "class_recall[3]"
    with pytest.raises(RecipeError, match=r"'class_recall' has no part '12' .*; its parts are 0, 1, .*, 9"):
        sandbox.run(RECIPE + claim.format("class_recall[12]"), run="other")
    with pytest.raises(RecipeError, match=r"'recall' has no part '0' .*; it has none"):
        sandbox.run(RECIPE + claim.format("recall[0]"), run="other")
    with pytest.raises(RecipeError, match=r"unknown metric 'fid\[0\]'"):
        sandbox.run(RECIPE + claim.format("fid[0]"), run="other")
    assert not (sandbox.root / "other").exists()


def test_a_plug_in_with_other_parts_than_it_says(sandbox):
    recipe = SMALL.replace("[test_loss]", '[{use: "tests.engine.test_parts:Wrong"}]')
    with pytest.raises(PluginError, match=r"Wrong: `score_parts` gave parts a, c; needed: its `parts`, a, b"):
        sandbox.run(recipe)
