"""What metrics declare to measure of collapse, and how it gets into run.json."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from collapse_sim.core.errors import PluginError
from collapse_sim.core.registry import BUILT_IN, load
from collapse_sim.metrics.aspects import ASPECTS, checked
from collapse_sim.metrics.loss import TestLoss as Loss  # not a test
from collapse_sim.metrics.text_counts import RareWords
from collapse_sim.plan.metric_notes import aspects_of


def test_only_aspects_that_exist() -> None:
    assert checked(["risk", "drift"]) == ("risk", "drift")
    assert checked(()) == ()
    for wrong in ("risk", ("rsik",), 3, None):
        with pytest.raises(ValueError, match="allowed: a tuple of 'risk', 'variance'"):
            checked(wrong)


def test_a_plugin_with_another_aspect_is_named() -> None:
    @dataclass
    class Ink:
        measures = ("ink",)
        needs = ("samples",)

    with pytest.raises(PluginError, match=r"Ink: `measures` is \('ink',\); allowed"):
        aspects_of(cast(Any, Ink()))


def test_a_metric_of_real_rows_alone_measures_no_collapse() -> None:
    """`of: held_out` is the same at every generation, a reference."""
    assert aspects_of(Loss()) == ("risk",)
    assert aspects_of(RareWords()) == ("tail",)
    assert aspects_of(RareWords(of="held_out")) == ()


def test_every_metric_that_measures_the_loss_or_a_distance_has_a_better_direction() -> None:
    declared = {name: checked(getattr(load("metrics", name), "measures", ())) for name in BUILT_IN["metrics"]}
    assert {aspect for measures in declared.values() for aspect in measures} == set(ASPECTS)
    for name, measures in declared.items():
        better: Any = getattr(load("metrics", name), "better", None)
        assert better is not None or not {"risk", "drift"} & set(measures), name


def test_the_docs_list_what_each_metric_measures() -> None:
    text = (Path(__file__).parents[2] / "docs" / "definitions.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [a-z ]+ \| `(\w+)` \| (`[^|]+) \|", text, flags=re.MULTILINE)
    documented = {(name, aspect) for aspect, names in rows for name in re.findall(r"`(\w+)`", names)}
    declared = {
        (name, aspect) for name in BUILT_IN["metrics"] for aspect in getattr(load("metrics", name), "measures", ())
    }
    assert documented == declared
