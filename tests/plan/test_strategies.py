"""Strategies as truth tables."""

import pytest

from collapse_sim.data.sources import REAL, Plan, RowCounts, Source, StrategyError, generation_zero
from collapse_sim.plan.strategies import (
    Accumulate,
    AccumulateSubsample,
    Fresh,
    Growing,
    Mix,
    Replace,
    Shrinking,
    samples_of,
)

COUNTS = RowCounts(real=100, samples=80, pool=150)


@pytest.mark.parametrize(
    ("strategy", "k", "sources", "rows"),
    [
        (Replace(), 1, [(0, 80, 0)], 80),
        (Replace(), 4, [(3, 80, 0)], 80),
        (Accumulate(), 1, [(REAL, 100, 0), (0, 80, 0)], 180),
        (Accumulate(), 3, [(REAL, 100, 0), (0, 80, 0), (1, 80, 0), (2, 80, 0)], 340),
        (AccumulateSubsample(), 2, [(REAL, 100, 0), (0, 80, 0), (1, 80, 0)], 100),
        (AccumulateSubsample(budget=50), 2, [(REAL, 100, 0), (0, 80, 0), (1, 80, 0)], 50),
        (AccumulateSubsample(budget=10_000), 1, [(REAL, 100, 0), (0, 80, 0)], 180),
        (Mix(), 2, None, None),
        (Mix(real=1.0, synthetic=0.5), 2, [(REAL, 100, 0), (1, 50, 0)], 150),
        (Mix(real=0.1, synthetic=0.8), 5, [(REAL, 10, 0), (4, 80, 0)], 90),
        (Mix(real=0.0, synthetic=0.8), 5, [(4, 80, 0)], 80),
        (Mix(real=1.0, synthetic=0.0), 5, [(REAL, 100, 0)], 100),
        (Mix(real=0.1, synthetic=0.8, redraw=True), 5, [(REAL, 10, 0, 100), (4, 80, 0, 80)], 90),
        (Mix(real=0.1, synthetic=0.8, redraw=True), 6, [(REAL, 10, 0, 100), (5, 80, 0, 80)], 90),
        (Mix(real=0.0, synthetic=0.5, redraw=True), 5, [(4, 50, 0, 80)], 50),
        (Mix(real=1.0, synthetic=0.5, redraw=True), 5, [(REAL, 100, 0, 100), (4, 50, 0, 80)], 150),
        (Mix(redraw=True), 2, None, None),
        (Fresh(share=0.25), 1, [(REAL, 25, 100), (0, 75, 0)], 100),
        (Fresh(share=0.25), 2, [(REAL, 25, 125), (1, 75, 0)], 100),
        (Fresh(share=0.25), 3, None, None),
        (Fresh(share=0.1), 1, None, None),
        (Fresh(share=0.5, redraw=True), 1, [(REAL, 50, 100, 50), (0, 50, 0, 80)], 100),
        (Fresh(share=0.25, redraw=True), 9, [(REAL, 25, 100, 50), (8, 75, 0, 80)], 100),
        (Fresh(share=0.6, redraw=True), 1, None, None),
        (Growing(), 1, [(0, 400, 0)], 400),
        (Growing(), 4, [(3, 2500, 0)], 2500),
        (Growing(first=10, power=1.5), 1, [(0, 28, 0)], 28),
        (Growing(first=10, power=0), 7, [(6, 10, 0)], 10),
        (Growing(first=10, power=1, real=0.3), 2, [(REAL, 30, 0), (1, 30, 0)], 60),
        (Growing(first=10, power=1, real=0.3), 9, [(REAL, 30, 0), (8, 100, 0)], 130),
        (Shrinking(share=0.8), 1, [(REAL, 80, 0), (0, 20, 0)], 100),
        (Shrinking(share=0.8), 4, [(REAL, 20, 0), (3, 80, 0)], 100),
        (Shrinking(share=0.8), 5, None, None),
        (Shrinking(share=0.8, power=0), 9, [(REAL, 80, 0), (8, 20, 0)], 100),
        (Shrinking(share=0.4, power=0.5), 4, [(REAL, 20, 0), (3, 80, 0)], 100),
    ],
)
def test_truth_table(strategy, k, sources, rows):
    if sources is None:
        with pytest.raises(StrategyError):
            strategy.plan(k, COUNTS)
        return
    plan = strategy.plan(k, COUNTS)
    assert list(plan.sources) == [Source(*source) for source in sources]
    assert plan.rows == rows


def test_generation_zero_is_the_real_rows():
    assert generation_zero(COUNTS) == Plan((Source(REAL, 100),))


@pytest.mark.parametrize("strategy", [Growing(), Growing(first=10, power=1, real=0.3), Growing(first=7, power=0)])
def test_growing_generations_generate_what_the_next_one_takes(strategy):
    """And never fewer than `samples`, which are scored: also in generation 0, and whatever the last generation is."""
    for k in range(1, 30):
        (taken,) = (source for source in strategy.plan(k, COUNTS).sources if source.generation != REAL)
        assert taken.generation == k - 1
        assert samples_of(strategy, k - 1, COUNTS) == max(80, taken.rows)


def test_other_strategies_have_as_many_samples_in_every_generation():
    assert [samples_of(Replace(), k, COUNTS) for k in (0, 1, 50)] == [80, 80, 80]


class Odd(Growing):
    """A strategy with a number of samples that it may not have."""

    rows: float = 79

    def rows_generated(self, k, counts):
        return self.rows if self.rows % 1 else int(self.rows)


def test_numbers_of_samples_that_a_strategy_may_not_have():
    with pytest.raises(ValueError, match="it gives 79 rows; needed: at least `samples`, 80"):
        samples_of(Odd(), 0, COUNTS)
    with pytest.raises(TypeError, match=r"it gives 99\.5; needed: a whole number"):
        samples_of(Odd(rows=99.5), 0, COUNTS)


def test_shrinking_shares_are_nested():
    counts = RowCounts(real=100, samples=100, pool=100)
    plans = [Shrinking(share=1.0, power=2).plan(k, counts) for k in range(1, 20)]
    real = [sum(source.rows for source in plan.sources if source.generation == REAL) for plan in plans]
    assert real == sorted(real, reverse=True)
    assert real[0] == 100
    assert real[-1] == 0
    assert {plan.rows for plan in plans} == {100}


def test_fresh_never_takes_a_real_row_twice():
    counts = RowCounts(real=100, samples=100, pool=400)
    taken = set(range(100))  # generation 0
    for k in range(1, 11):
        for source in Fresh(share=0.3).plan(k, counts).sources:
            if source.generation == REAL:
                rows = set(range(source.first, source.first + source.rows))
                assert not rows & taken
                taken |= rows
    assert len(taken) == 400


def test_messages_say_what_to_do():
    with pytest.raises(StrategyError, match=r"raise `samples` to 100 or lower `synthetic`"):
        Mix().plan(1, COUNTS)
    with pytest.raises(StrategyError, match=r"175 in all at generation 3, but the data has 150"):
        Fresh(share=0.25).plan(3, COUNTS)
    with pytest.raises(StrategyError, match=r"84 samples of generation 4, .* raise `samples` to 100"):
        Shrinking(share=0.8).plan(5, COUNTS)


@pytest.mark.parametrize("strategy", [Mix, Fresh, Shrinking])
def test_shares_outside_their_range_are_refused(strategy):
    name = "real" if strategy is Mix else "share"
    for bad in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"less than or equal|greater than or equal"):
            strategy(**{name: bad})
