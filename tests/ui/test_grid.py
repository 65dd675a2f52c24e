"""The table of arms by generations: cells, windows and sparklines."""

from __future__ import annotations

import re

from collapse_sim.core.events import JobStarted, RunStarted, Scored
from collapse_sim.ui.state import State


def test_cells_found_made_in_part_and_to_do_differ_without_colour(tell, reduce, draw):
    state = reduce(tell(generations=3)[:1])
    for arm in ("replace", "accumulate"):
        state.apply(Scored(0, arm, (0, 1, 2), {}), 0.0)
    found, made = state.cells["replace"][0], state.cells["accumulate"][0]
    found.reused, made.made = 6, 6
    state.cells["distill"][0].fit = state.all_seeds
    rows = draw(state, 60, 30).split("\n")
    symbols = [row.split()[1] for row in rows if row.startswith((" replace", " accumulate", " distill"))][:3]
    assert symbols == ["○", "●", "◑33%"]


def test_the_window_of_a_long_run_follows_the_generation_under_way(tell, reduce, draw):
    state = reduce(tell(generations=200, seeds=(0,), arms=("a",)))
    state.cells["a"][150].scores = 0
    row = next(line for line in draw(state, 80, 24).split("\n") if line.startswith(" a "))
    cells = row[row.index("‹") + 1 : row.index("›")]
    assert set(cells) <= set("●◔◑◕")
    assert len(cells.replace("●", "")) == 1


def test_arms_under_way_stay_in_sight(tell, reduce, draw):
    arms = tuple(f"arm{i:02d}" for i in range(40))
    state = reduce(tell(arms=arms, generations=1, seeds=(0,))[:1])
    state.apply(JobStarted("fit", "d", 0, ("arm33",), (0,)), 1.0)
    text = draw(state, 80, 20)
    assert "arm33" in text
    assert "more arms; 0 of 80 cells done" in text


def test_all_sparklines_have_one_scale_and_mark_what_is_not_finite(tell, reduce, draw):
    state = reduce(tell(arms=("low", "high"), generations=3, seeds=(0,))[:1])
    state.scores = {"low": {"test_loss": [0.0, 1.0, 2.0, 3.0]}, "high": {"test_loss": [7.0, 8.0, float("nan"), 7.99]}}
    text = draw(state, 100, 30)
    assert "▁▂▃▄" in text
    assert "██×█" in text  # 7 of 8 is the last of eight levels


def test_a_wide_range_is_drawn_on_a_logarithmic_scale_and_says_so(tell, reduce, draw):
    state = reduce(tell(arms=("a",), generations=3, seeds=(0,))[:1])
    state.scores = {"a": {"test_loss": [1.0, 10.0, 100.0, 1000.0]}}
    text = draw(state, 100, 30)
    assert "▁▃▆█" in text
    assert "test_loss ↓ log" in text


def test_a_metric_of_no_run_yet_is_drawn_as_to_do(draw):
    state = State()
    state.apply(RunStarted("r", ("a",), (0,), 2, ("loss",), {"loss": False}, "cpu", "fp32", "runs/r"), 0.0)
    text = draw(state, 100, 30, now=0.0)
    assert "loss ↑" in text
    assert re.search(r"^ a .*·.*·.*·", text, re.MULTILINE)


def test_metrics_without_a_column_are_named(tell, reduce, draw):
    state = reduce(tell(metrics=("test_loss", *(f"metric_{i}" for i in range(5))))[:-1])
    seen = set()
    for width in (70, 80, 100, 120, 160):
        text = draw(state, width, 30)
        header = next(line for line in text.split("\n") if "test_loss" in line)
        shown = re.findall(r"metric_\d", header)
        found = re.search(r"^ \+(\d) metrics?: (.*)$", text, re.MULTILINE)
        named = found[2].split(", ") if found else []
        assert sorted([*shown, *named]) == [f"metric_{i}" for i in range(5)]
        assert len(named) == int(found[1] if found else 0)
        seen.add(len(named))
    assert {0} < seen
