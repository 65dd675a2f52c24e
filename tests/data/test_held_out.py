"""Which rows are held out, and how many are used: a fixed permutation, cut in two."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from collapse_sim.core.errors import RecipeError
from collapse_sim.data.held_out import ShareOrCount, check_rows, held_out_index, shuffled, shuffled_split


def limits(rows: int | None = None, held_out_rows: int | None = None) -> Any:
    return SimpleNamespace(rows=rows, held_out_rows=held_out_rows)


def test_the_permutation_never_changes() -> None:
    """As recorded: it is part of what a published result means."""
    assert shuffled(10).tolist() == [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]
    assert sorted(shuffled(1000).tolist()) == list(range(1000))
    assert not np.array_equal(shuffled(1000), np.arange(1000))


@pytest.mark.parametrize("rows", [2, 3, 10, 101])
@pytest.mark.parametrize("held_out", [0.001, 0.2, 0.5, 0.999, 1])
def test_every_row_is_in_exactly_one_part(held_out: float | int, rows: int) -> None:
    train, other = shuffled_split(held_out, rows, "points")
    assert sorted([*train.tolist(), *other.tolist()]) == list(range(rows))
    assert len(train) >= 1 <= len(other)
    assert abs(len(other) - (held_out if held_out == 1 else held_out * rows)) < 1  # next to a share, but never none


def test_holding_out_more_adds_rows_and_moves_none() -> None:
    before: set[int] = set()
    for held_out in range(1, 20):
        other = set(shuffled_split(held_out, 20, "points")[1].tolist())
        assert before < other
        before = other
    for held_out in (20, 21):
        with pytest.raises(RecipeError, match=rf"data.held_out: {held_out} of 20 points leaves none .* at most 19"):
            shuffled_split(held_out, 20, "points")


def test_the_used_held_out_rows_are_a_choice_in_order() -> None:
    for count in (None, 50, 51):
        assert held_out_index(limits(held_out_rows=count), 50).tolist() == list(range(50))
    before: set[int] = set()
    for count in range(1, 50):
        index = held_out_index(limits(held_out_rows=count), 50)
        assert len(index) == count
        assert (np.diff(index) > 0).all()
        assert before < set(index.tolist()) <= set(range(50))
        before = set(index.tolist())


def test_what_is_asked_for_and_not_there_is_said_at_once() -> None:
    check_rows(limits(), 0, 0)
    check_rows(limits(7, 5), 7, 5)
    with pytest.raises(RecipeError) as caught:
        check_rows(limits(8, 6), 7, 5)
    assert "data.rows: 8 asked for, but there are 7 real rows" in str(caught.value)
    assert "data.held_out_rows: 6 asked for, but there are 5 held-out rows" in str(caught.value)


@pytest.mark.parametrize("value", [0.2, 1, 500, 1e-9, 1 - 1e-9])
def test_a_share_stays_a_share_and_a_count_a_count(value: float | int) -> None:
    found = TypeAdapter(ShareOrCount).validate_python(value)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "True is not a number"),
        ("0.2", "'0.2' is not a number"),
        (None, "None is not a number"),
        (1.0, "for a number of rows omit the decimal point"),
        (0.0, "0.0 is not a share"),
        (float("inf"), "inf is not a share"),
        (-1, "-1 rows are too few"),
    ],
)
def test_what_is_neither(value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(ShareOrCount).validate_python(value)
