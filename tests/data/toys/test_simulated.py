"""gaussian and linear: rows that don't depend on how many are drawn, or on which other seeds are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from pydantic import ValidationError
from torch import Tensor

from collapse_sim.data.base import Data
from collapse_sim.data.toys.gaussian_points import GaussianPoints
from collapse_sim.data.toys.linear_data import LinearData
from collapse_sim.data.toys.simulated import BLOCK_ROWS, in_blocks, normal_rows
from tests.data.making import draws

TOYS = [GaussianPoints(), GaussianPoints(dimensions=3, mean=[1, 2, 3], scale=2), LinearData(), LinearData(dimensions=3)]


@pytest.mark.parametrize("data", TOYS)
def test_first_rows_do_not_depend_on_how_many_are_drawn(data: Any) -> None:
    whole = data.simulate(1100, draws(0))
    for rows in (1, 7, 16, 100, 255, 256, 257, 1000):
        part = data.simulate(rows, draws(0))
        for name, column in part.items():
            assert torch.equal(column, whole[name][:rows]), (name, rows)


@pytest.mark.parametrize("data", TOYS)
@pytest.mark.parametrize("rows", [1, 40, 300])
def test_stacked_slices_equal_single_seeds(data: Any, rows: int) -> None:
    stacked = data.simulate(rows, draws(3, 1, 4, stacked=True))
    for slot, seed in enumerate((3, 1, 4)):
        for name, column in data.simulate(rows, draws(seed)).items():
            assert torch.equal(stacked[name][slot], column)
    assert not torch.equal(stacked["x"][0], stacked["x"][1])


@pytest.mark.parametrize("data", TOYS)
def test_columns_are_what_inspect_promises(data: Any) -> None:
    info = data.inspect(Path("/nowhere"))
    assert data.seeded
    assert info.kind == data.kind
    assert info.fingerprint == ""
    rows = data.simulate(info.pool, draws(0))
    assert set(rows) == set(info.columns)
    for name, (shape, dtype) in info.columns.items():
        assert rows[name].shape == (info.pool, *shape)
        assert str(rows[name].dtype) == f"torch.{dtype}"
    assert isinstance(data, Data)


@pytest.mark.parametrize("toy", [GaussianPoints, LinearData])
def test_fresh_rows_are_a_reserve(toy: Any) -> None:
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
def test_bad_settings(toy: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        toy(**settings)


@pytest.mark.parametrize("rows", [1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS])
@pytest.mark.parametrize("stack", [(), (2,)])
def test_blocks_are_whole_and_in_order(rows: int, stack: tuple[int, ...]) -> None:
    """However few rows are wanted; no more blocks than needed are drawn."""
    asked: list[int] = []

    def block(block_rows: int) -> Tensor:
        first = sum(asked)
        asked.append(block_rows)
        return torch.arange(first, first + block_rows).unsqueeze(-1).expand(*stack, block_rows, 3)

    found = in_blocks(rows, block)
    assert found.shape == (*stack, rows, 3)
    assert torch.equal(found, torch.arange(rows).unsqueeze(-1).expand(*stack, rows, 3))
    assert asked == [BLOCK_ROWS] * math.ceil(rows / BLOCK_ROWS)


def test_normal_rows_are_normal_and_independent() -> None:
    rows = normal_rows(draws(0), 20_000, 3)
    assert rows.dtype == torch.float64
    for column in rows.T:
        assert scipy.stats.kstest(column.numpy(), "norm").pvalue > 1e-3
    for lag in (1, BLOCK_ROWS):  # columns of one row, of neighbours, and of blocks
        both = torch.cat([rows[:-lag], rows[lag:]], 1)
        off = torch.corrcoef(both.T) - torch.eye(6, dtype=torch.float64)
        assert off.abs().max() < 5 / len(rows) ** 0.5
