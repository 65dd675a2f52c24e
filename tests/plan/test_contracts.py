"""What a strategy's plan must be: drawn rows lie where there are rows."""

from __future__ import annotations

import pytest

from collapse_sim.data.sources import REAL, Plan, RowCounts, Source, StrategyError
from collapse_sim.plan.contracts import check_plan
from collapse_sim.plan.strategies import Fresh, Mix

COUNTS = RowCounts(real=100, samples=80, pool=150)


@pytest.mark.parametrize("strategy", [Mix(synthetic=0.5, redraw=True), Fresh(share=0.5, redraw=True)])
def test_drawn_rows_lie_where_there_are_rows(strategy):
    check_plan(strategy.plan(3, COUNTS), 3, COUNTS, (80, 80, 80))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Source(REAL, 10, 100, 51), "it takes rows 100 to 150 of generation -1, which has 150"),
        (Source(2, 10, 0, 81), "it takes rows 0 to 80 of generation 2, which has 80"),
        (Source(2, 10, 0, 9), "it draws 10 rows among 9 of generation 2"),
    ],
)
def test_drawn_rows_that_there_are_not(source, message):
    with pytest.raises(StrategyError, match=message):
        check_plan(Plan((source,)), 3, COUNTS, (90, 90, 80))


def test_a_generation_has_its_own_number_of_samples():
    plan = Plan((Source(1, 90), Source(2, 80)))
    check_plan(plan, 3, COUNTS, (80, 90, 80))
    with pytest.raises(StrategyError, match="rows 0 to 89 of generation 1, which has 80"):
        check_plan(plan, 3, COUNTS, (90, 80, 90))
