"""The widths of the table's parts: they never exceed the terminal, and every generation or a window has its cells."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from rich.cells import cell_len

from collapse_sim.ui import formatting
from collapse_sim.ui.grid_layout import GridLayout, SparklineScale, latest, series, title
from collapse_sim.ui.state import Cell, State
from collapse_sim.ui.symbols import ASCII, UNICODE


def state_of(arms: Sequence[str], generations: int, metrics: Sequence[str], seed: int = 0) -> State:
    """A run of which some scores are known."""
    dice = random.Random(seed)
    state = State(arms=list(arms), generations=generations, metrics=list(metrics), show=metrics[0] if metrics else None)
    state.cells = {arm: [Cell() for _ in range(generations + 1)] for arm in arms}
    state.scores = {
        arm: {
            metric: [
                dice.choice([None, math.nan, 10 ** dice.uniform(-6, 9), -dice.random()]) for _ in range(generations + 1)
            ]
            for metric in metrics
        }
        for arm in arms
    }
    return state


@pytest.mark.parametrize("width", [40, 50, 60, 79, 80, 100, 133, 200])
@pytest.mark.parametrize("generations", [0, 1, 5, 10, 24, 100, 3000])
@pytest.mark.parametrize("metrics", [0, 1, 4])
def test_the_parts_fit_into_the_terminal(width: int, generations: int, metrics: int) -> None:
    for arms in (["a"], ["replace", "accumulate+distill_output=0.5", "日本語" * 9]):
        state = state_of(arms, generations, [f"metric_{i}" for i in range(metrics)])
        for symbols in (UNICODE, ASCII):
            found = GridLayout.of(state, width, symbols)
            used = found.name + 2 + found.cells + 2 * (found.shown > 0) + found.shown + sum(n for _, n in found.others)
            assert used <= width
            assert 0 <= found.first <= found.last <= generations
            assert found.slot >= 1
            assert found.windowed == (found.last - found.first < generations)
            assert found.spark == 0 or not found.windowed or width >= 60  # a narrow terminal has cells instead
            assert found.name <= max(map(cell_len, arms))
            assert all(metric in state.metrics and metric != state.show for metric, _ in found.others)
            for metric, columns in found.others:
                needed = [title(state, metric, symbols), *(latest(state, arm, metric) for arm in arms)]
                assert columns > max(map(len, needed))  # and a gap before it


def test_a_window_holds_the_generation_under_way() -> None:
    for under_way in (0, 700, 2900, 3000):
        state = state_of(["a", "b"], 3000, ["m"])
        state.scores = {}
        for arm in state.cells:
            for cell in state.cells[arm][:under_way]:
                cell.fit = cell.samples = cell.scores = 1
        found = GridLayout.of(state, 80, UNICODE)
        assert found.windowed
        assert found.first <= min(state.generation(), 3000) <= found.last


def test_the_last_known_mean_is_shown() -> None:
    state = state_of(["a"], 3, ["m"])
    state.scores = {"a": {"m": [1.0, 2.5, None, None]}}
    assert latest(state, "a", "m") == formatting.value(2.5)
    assert latest(state, "a", "other") == latest(state, "b", "m") == latest(state, "a", None) == ""
    assert series(state, "a", "m") == [1.0, 2.5, None, None]
    assert series(state, "b", "m") == []


@pytest.mark.parametrize("seed", range(20))
def test_levels_rise_with_the_values_from_the_first_to_the_last(seed: int) -> None:
    dice = random.Random(seed)
    values = sorted(dice.uniform(0.1, 10 ** dice.randrange(1, 6)) for _ in range(40))
    state = state_of(["a", "b"], 19, ["m"])
    state.scores = {"a": {"m": list(values[::2])}, "b": {"m": [math.nan, *values[1::2]]}}
    scale = SparklineScale.of(state)
    assert scale.log == (values[-1] > 30 * values[0])
    levels = [scale.level(value, 8) for value in values]
    assert levels == sorted(levels)
    assert (levels[0], levels[-1]) == (0, 7)


def test_equal_values_are_in_the_middle_and_negative_ones_are_not_logarithmic() -> None:
    state = state_of(["a"], 2, ["m"])
    state.scores = {"a": {"m": [3.0, 3.0, None]}}
    assert SparklineScale.of(state).level(3.0, 8) == 4
    state.scores = {"a": {"m": [-1.0, 0.0, 1e6]}}
    assert not SparklineScale.of(state).log
    state.scores = {"a": {"m": [math.nan, math.inf, None]}}
    scale = SparklineScale.of(state)
    assert (scale.low, scale.high, scale.log) == (0.0, 1.0, False)


def test_titles_say_which_direction_is_better_and_which_scale_is_drawn() -> None:
    state = state_of(["a"], 1, ["loss\x1b", "recall", "size"])
    state.lower_is_better = {"loss\x1b": True, "recall": False, "size": None}
    state.scores = {"a": {"loss\x1b": [1.0, 1000.0]}}
    assert [title(state, metric, ASCII) for metric in state.metrics] == [r"loss\x1b v log", "recall ^", "size"]
