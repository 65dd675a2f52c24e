"""Colours and markers of arms."""

from __future__ import annotations

from matplotlib.colors import to_rgb

from collapse_sim.analysis.looks import looks, scale
from collapse_sim.analysis.results import read_results
from collapse_sim.ui.palette import COLORS
from tests.analysis.conftest import WriteRun


def test_arms_that_differ_by_one_number_have_a_scale_of_colours(write_run: WriteRun) -> None:
    weights = [1.0, 0.25, 2.0, 0.5]
    arms = {f"distill {w}": {"data": {"use": "replace"}, "teacher": {"weights": {"output": w}}} for w in weights}
    arms = {"replace": {"data": {"use": "replace"}}, **arms}
    scores = {arm: {"m": [[1.0]] * 3} for arm in arms}
    found = looks(read_results(write_run(scores, seeds=[0], settings={"arms": arms})))
    light = {arm: sum(to_rgb(found[arm].color)) for arm in arms}
    assert sorted(weights, key=lambda w: light[f"distill {w}"]) == sorted(weights)
    assert found["replace"].color in COLORS
    assert len({look.color for look in found.values()}) == len({look.marker for look in found.values()}) == 5
    plain = {"replace": arms["replace"], "distill 1.0": arms["distill 1.0"], "other": {"data": {"use": "mix"}}}
    assert scale(plain, tuple(plain)) == {}
    two = {f"{a} {b}": {"a": a, "b": b} for a in (1, 2, 3) for b in (1, 2, 3, 4)}
    assert scale(two, tuple(two)) == {}  # two numbers: no order
