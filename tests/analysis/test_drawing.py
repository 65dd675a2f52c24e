"""What all pictures share: labels of arms."""

from __future__ import annotations

from collapse_sim.analysis import fonts
from collapse_sim.analysis.drawing import labels
from collapse_sim.analysis.plots import figure
from collapse_sim.analysis.results import read_results
from tests.analysis.conftest import WriteRun


def test_long_names_are_cut_and_stay_different(write_run: WriteRun) -> None:
    names = [f"{'very ' * 40}long {i}" for i in range(3)] + ["x" * 100 + "a" * 60, "x" * 101 + "a" * 60, "中" * 80]
    found = labels(names)
    assert len(set(found.values())) == len(names)
    assert all(fonts.cells(label) <= 44 for label in found.values())
    assert found[names[1]].endswith("long 1")
    assert labels(["short", "a b"]) == {"short": "short", "a b": "a b"}
    drawing = figure(read_results(write_run({name: {"m": [[1.0]] * 3} for name in names}, seeds=[0])), ["m"])
    assert all(drawing.get_size_inches() < 8)
