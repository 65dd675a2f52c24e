"""What a store holds and which runs refer to it."""

from __future__ import annotations

import os
from pathlib import Path

from collapse_sim.analysis.results import read_results
from collapse_sim.store.cache import entries, open_store


def test_a_run_directory_whose_name_is_not_utf8(sandbox):
    name = os.fsdecode(b"caf\xe9")
    toy = """
    data: {use: gaussian, rows: 20}
    model: gaussian
    generations: 1
    seeds: 2
    arms: {replace: {data: replace}}
    metrics: [variance_ratio]
    """
    assert sandbox.run(toy, name)["made"] > 0
    assert sandbox.run(toy, name)["made"] == 0
    (entry, *_) = entries(open_store(sandbox.root / ".store"))
    assert [Path(run).name for run in entry.runs] == [name]
    assert read_results(sandbox.root / name).problems == ()
