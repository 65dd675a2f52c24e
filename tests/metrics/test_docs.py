"""docs/metrics.md names every metric and feature map, and its example works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from collapse_sim.core.registry import BUILT_IN, load
from collapse_sim.metrics.base import Metric

TEXT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


@pytest.mark.parametrize("room", ["metrics", "features"])
def test_every_name_has_its_row(room):
    rows = re.findall(r"^\| `(\w+)`", TEXT, flags=re.MULTILINE)
    assert set(BUILT_IN[room]) <= set(rows)


def test_better_is_what_the_table_says():
    words = {"lower": "lower", "higher": "higher", None: "near"}  # near 1, near the entropy
    table = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| (lower|higher|near)\b[^|]* \|", TEXT, flags=re.MULTILINE))
    assert table == {name: words[load("metrics", name).better] for name in BUILT_IN["metrics"]}


def test_bounds_are_what_the_table_says():
    """ "0 to 1", "from 0": what can be, which tables and plots cut intervals and axes at."""
    table = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| ([^|]+) \|", TEXT, flags=re.MULTILINE))
    for name in BUILT_IN["metrics"]:
        bounds = getattr(load("metrics", name), "bounds", (None, None))
        share = re.match(r"0 to (1|100)\b", table[name])
        least = re.match(r"(?:from )?(0|1)\b(?: to)?", table[name])
        if share and name not in ("class_entropy", "rare_words"):
            assert bounds == (0.0, float(share[1])), name
        elif least:
            assert bounds[0] == float(least[1]), name
        elif "can be slightly negative" in table[name] or name == "grammar_kl":
            assert bounds == (None, None), name


def test_every_metric_has_a_unit_and_no_key_knows_it():
    required = {"mauve": {"model": "gpt2"}}
    without = {"kid", "mmd", "test_loss"}  # no unit; the model's own
    for name in BUILT_IN["metrics"]:
        metric = load("metrics", name)(**required.get(name, {}))
        assert bool(getattr(metric, "unit", "")) == (name not in without), name
        known = metric.describe()
        assert not {"bounds", "measures"} & set(known)
        assert "unit" not in known or name == "length"  # a setting


def test_example_is_a_metric(evaluation, digits_info):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    room: dict[str, object] = {"__name__": "my_metrics"}
    exec(code, room)
    metric = room["Ink"](above=200)
    assert isinstance(metric, Metric)
    metric.check(digits_info, None, 10)
    images = torch.tensor([0, 200, 201, 255], dtype=torch.uint8).reshape(1, 1, 2, 2)
    assert metric.score(evaluation({"samples rows": {"image": images}})) == 0.5
