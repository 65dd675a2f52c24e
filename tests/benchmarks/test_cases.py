"""Every case runs at its smallest size."""

from __future__ import annotations

import json
import math

import pytest

from benchmarks.catalogue import CASES
from benchmarks.harness import measure
from benchmarks.report import line
from collapse_sim.core.machine import open_device

pytestmark = pytest.mark.slow  # together more than a minute

# New processes that import torch, whole runs, and large networks at full size.
SLOW = {"processes", "quickstart", "busy", "idle", "growth-memory", "first-update", "vae-table1", "scoring"}
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CASES]


@pytest.mark.filterwarnings("default")  # of the libraries that are compared
@pytest.mark.parametrize("name", NAMES)
def test_a_case_runs(name, capsys):
    entry = measure(CASES[name], open_device("cpu"), 1, tiny=True)
    assert "failed" not in entry, line(entry)
    assert entry["targets"].keys() <= entry["measured"].keys() | OPTIONAL
    assert all(math.isfinite(value) for values in entry["measured"].values() for value in values)
    assert name == "overhead" or all(value > 0 for values in entry["measured"].values() for value in values)
    json.dumps(entry)
    assert capsys.readouterr().out == ""


OPTIONAL = {"diffusers' loop, bf16", "DDPMPipeline, bf16", "generate, bf16"}  # where there are instructions for bf16
