"""Plans of rows: how many a fit sees. What strategies plan is in tests/plan/test_strategies.py."""

from __future__ import annotations

import pytest

from collapse_sim.data.sources import REAL, Plan, RowCounts, Source, generation_zero

MIXED = (Source(REAL, 30, first=5), Source(0, 20), Source(2, 7, among=50))  # 57 rows, of which 7 are drawn out of 50


@pytest.mark.parametrize(("budget", "rows"), [(None, 57), (1, 1), (56, 56), (57, 57), (58, 57), (1000, 57)])
def test_a_budget_is_drawn_out_of_all_rows_and_adds_none(budget: int | None, rows: int) -> None:
    assert Plan(MIXED, budget).rows == rows


def test_generation_zero_sees_the_real_rows_and_no_others() -> None:
    plan = generation_zero(RowCounts(real=100, samples=40, pool=150))
    assert plan.rows == 100
    ((generation, rows, first, among),) = plan.sources
    assert (generation, rows, first, among) == (REAL, 100, 0, None)
