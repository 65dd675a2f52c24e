"""Tables of a metric with parts: every part at one generation, and when it dies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from tests.analysis.conftest import ENTRY, WriteRun


def test_tables(parts_run: Path, call: Callable[..., Result]) -> None:
    first = call("toy").stdout
    assert "shares[1]" not in first  # the first table is of metrics only
    shown = call("toy", "--metric", "shares").stdout
    assert "shares of every part at generation 3: mean over 2 seeds" in shown
    table = shown[shown.index("generation at which a part dies") :]
    assert "below 0.1 from there to the end, generation 3" in table
    lines = [line.split() for line in table.splitlines()]
    assert ["replace", "2"] in lines
    assert ["accumulate", ">", "3"] in lines
    assert "alive in every seed: 0" in table
    single = call("toy", "--metric", "shares[1]").stdout
    assert "shares[1] (of the real share): mean over 2 seeds" in single
    assert "part dies" not in single


def test_no_part_dies(write_run: WriteRun, call: Callable[..., Result]) -> None:
    scores = {"replace": {"shares": [[0.9], [0.9]], "shares[0]": [[1.0], [1.0]], "shares[1]": [[0.9], [0.9]]}}
    write_run(scores, seeds=(0,), metrics={"shares": ENTRY})
    assert "shares: no part dies (below 0.1 from there to the end, generation 1)" in call("toy", "--all").stdout
