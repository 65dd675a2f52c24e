"""gaussian and linear: rows that don't depend on how many are drawn, or on which other seeds are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from collapse_sim.data.base import Data
from collapse_sim.data.toys.gaussian_points import GaussianPoints
from collapse_sim.data.toys.linear_data import LinearData
from tests.data.making import draws

TOYS = [GaussianPoints(), GaussianPoints(dimensions=3, mean=[1, 2, 3], scale=2), LinearData(), LinearData(dimensions=3)]


@pytest.mark.parametrize("data", TOYS)
def test_first_rows_do_not_depend_on_how_many_are_drawn(data) -> None:
    whole = data.simulate(1100, draws(0))
    for rows in (1, 7, 16, 100, 255, 256, 257, 1000):
        part = data.simulate(rows, draws(0))
        for name, column in part.items():
            assert torch.equal(column, whole[name][:rows]), (name, rows)


@pytest.mark.parametrize("data", TOYS)
@pytest.mark.parametrize("rows", [1, 40, 300])
def test_stacked_slices_equal_single_seeds(data, rows: int) -> None:
    stacked = data.simulate(rows, draws(3, 1, 4, stacked=True))
    for slot, seed in enumerate((3, 1, 4)):
        for name, column in data.simulate(rows, draws(seed)).items():
            assert torch.equal(stacked[name][slot], column)
    assert not torch.equal(stacked["x"][0], stacked["x"][1])


@pytest.mark.parametrize("data", TOYS)
def test_columns_are_what_inspect_promises(data) -> None:
    info = data.inspect(Path("/nowhere"))
    assert isinstance(data, Data)
    assert data.seeded
    assert info.kind == data.kind
    assert info.fingerprint == ""
    rows = data.simulate(info.pool, draws(0))
    assert set(rows) == set(info.columns)
    for name, (shape, dtype) in info.columns.items():
        assert rows[name].shape == (info.pool, *shape)
        assert str(rows[name].dtype) == f"torch.{dtype}"


@pytest.mark.parametrize("toy", [GaussianPoints, LinearData])
def test_fresh_rows_are_a_reserve(toy) -> None:
    info = toy(rows=50, fresh_rows=30, held_out_rows=20).inspect(Path())
    assert (info.rows, info.pool, info.held_out) == (50, 80, 20)


@pytest.mark.parametrize(
    ("toy", "settings", "message"),
    [
        (GaussianPoints, {"dimensions": 2, "mean": [1, 2, 3]}, "`mean` has 3 entries, but `dimensions` is 2"),
        (GaussianPoints, {"scale": 0}, "greater than 0"),
        (GaussianPoints, {"mean": float("nan")}, "finite"),
        (GaussianPoints, {"rows": 0}, "greater than 0"),
        (GaussianPoints, {"dimension": 2}, "Extra inputs"),
        (LinearData, {"noise": -1}, "greater than or equal to 0"),
        (LinearData, {"signal": float("inf")}, "finite"),
        (LinearData, {"fresh_rows": -1}, "greater than or equal to 0"),
    ],
)
def test_bad_settings(toy, settings, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        toy(**settings)
