"""Linear regression: minimum-norm least squares, and curves where they are known."""

from __future__ import annotations

import pytest

from collapse_sim.families.linear import LinearRegression
from collapse_sim.testing import check_closed_form
from tests.families.small_rows import REGRESSION, regression


def test_fresh_design_and_mix_have_curves_only_where_they_are_known():
    from collapse_sim.data.base import Info
    from collapse_sim.data.sources import RowCounts
    from collapse_sim.families.linear import LinearRegression
    from collapse_sim.plan.settings import Arm
    from collapse_sim.plan.strategies import Accumulate, Mix, Replace
    from tests.chains import chain_of

    info = Info("regression", {"x": ((10,), "float64"), "y": ((), "float64")}, 100, 100, 10, constants={"noise": 2.0})
    counts = RowCounts(100, 100, 100)

    def theory(strategy, design="fixed", counts=counts):
        family = LinearRegression(design=design)
        return family.theory("excess_test_error", chain_of(Arm("a", strategy), counts, 3), None, info)

    unit = 4 * 10 / 89
    assert theory(Replace(), "fresh") == pytest.approx([unit, 2 * unit, 3 * unit, 4 * unit])
    assert theory(Accumulate(), "fresh") is None
    assert theory(Mix(real=0.5)) is None
    assert theory(Replace(), counts=RowCounts(100, 50, 100)) is None
    # All real rows and as many samples: e_k = mean(u_real, e_{k-1} + u_{k-1}), so 1, (1 + 1)/4 + ..., by hand:
    # e_1 = u_real + u_0 / 2; e_2 = u_real + u_0 / 4 + u_1 / 2; e_3 adds a sixteenth of the first.
    assert theory(Mix()) == pytest.approx(
        [unit, unit * 5 / 4, unit * (1 + 1 / 16 + 1 / 4), unit * (1 + 1 / 64 + 1 / 16 + 1 / 4)]
    )


def test_linear():
    check_closed_form(LinearRegression(), REGRESSION, regression(50))


def test_linear_is_minimum_norm_when_underdetermined():
    rows = regression(2)
    fitted = LinearRegression().solve(REGRESSION, rows, None, {}, None)
    import numpy as np

    for s in range(3):
        expected, *_ = np.linalg.lstsq(rows["x"][s].numpy(), rows["y"][s].numpy(), rcond=None)
        np.testing.assert_allclose(fitted.weights[s].numpy(), expected, atol=1e-10)
