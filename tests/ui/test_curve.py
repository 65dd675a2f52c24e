"""The loss curve of the current fit."""

from __future__ import annotations

import re

import pytest

from collapse_sim.core.events import JobProgress, JobStarted
from collapse_sim.ui.state import State


def under_way(tell, losses):
    """A run with a fit of which these losses are known, of 100 steps."""
    timed = tell()[:2]
    state = State()
    for now, event in timed:
        state.apply(event, now)
    state.apply(JobStarted("fit", "d", 0, ("replace",), (1,)), 1e6)
    for step, loss in losses:
        state.apply(JobProgress("fit", "d", 0, ("replace",), (1,), step, 100, "steps", None, loss), 1e6 + step)
    return state


def drawn(text: str) -> list[str]:
    """The lines of the curve, highest first."""
    lines = text.split("\n")
    start = next(i for i, line in enumerate(lines) if line.strip().startswith("loss "))
    return [line[1:] for line in lines[start : lines.index("", start)]]


def test_the_loss_is_drawn_where_there_is_room_and_beside_the_job_where_it_is_wide(tell, draw):
    state = under_way(tell, [(step, 10.0 - step / 10) for step in range(1, 51)])
    heading, *lines = drawn(draw(state, 100, 40))
    assert heading == "loss · replace · generation 0 · seed 1 · over 100 steps"
    assert len(lines) == 8
    assert lines[0].split()[0] == "9.900"
    assert lines[-1].split()[0] == "5.000"
    heights = [sum(line.ljust(110)[column] not in " " for line in lines) for column in range(6, 90)]
    assert heights == sorted(heights, reverse=True)  # it falls all the way
    assert heights[0] == 8
    last = max(column for column, height in enumerate(heights) if height)
    assert last == pytest.approx(len(heights) / 2, abs=6)  # half of the steps
    wide = draw(state, 200, 16)
    assert re.search(r"of the run .*   loss · replace", wide)
    assert "loss · replace" not in draw(state, 80, 16)
    assert "loss" not in draw(under_way(tell, []), 100, 40).replace("test_loss", "")


@pytest.mark.parametrize(
    "losses", [[(1, float("nan"))], [(1, 2.0)], [(1, 2.0), (2, float("inf"))], [(5, 1.0), (6, 1.0)]]
)
def test_strange_losses_are_drawn_or_left_out(tell, draw, losses):
    draw(under_way(tell, losses), 100, 40)


def test_a_curve_does_not_grow_for_ever(tell):
    state = under_way(tell, [(step, 1.0) for step in range(3000)])
    assert state.curve is not None
    assert 100 < len(state.curve.losses) <= 400
    assert State.from_json(state.to_json()).curve == state.curve
