"""Linear regression: minimum-norm least squares, and curves where they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from collapse_sim.core.randomness import Draws
from collapse_sim.data.base import Info
from collapse_sim.data.sources import RowCounts
from collapse_sim.families.base import Conditions
from collapse_sim.families.linear import LinearModel, LinearRegression
from collapse_sim.plan.settings import Arm, Teacher
from collapse_sim.plan.strategies import Accumulate, Mix, Replace
from collapse_sim.testing import check_closed_form
from tests.chains import chain_of
from tests.families.small_rows import REGRESSION, regression


def test_fresh_design_and_mix_have_curves_only_where_they_are_known():
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


def test_a_teacher_is_a_ridge_towards_its_weights_on_the_same_rows() -> None:
    """Least squares of the rows and, w times, of the teacher's predictions for them, as one problem of 2 N rows."""
    info, rows = REGRESSION, regression(20)
    teacher = LinearRegression().solve(info, regression(7), None, {}, None)
    w = 0.7
    student = LinearRegression().solve(info, rows, teacher, {"output": w}, None)
    for s in range(3):
        x, y = rows["x"][s].numpy(), rows["y"][s].numpy()
        told = x @ teacher.weights[s].numpy()
        stacked = np.concatenate([x, np.sqrt(w) * x]), np.concatenate([y, np.sqrt(w) * told])
        expected, *_ = np.linalg.lstsq(*stacked, rcond=None)
        np.testing.assert_allclose(student.weights[s].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("design", ["fixed", "fresh"])
def test_labels_are_predictions_and_noise_of_the_known_size(design: str) -> None:
    family = LinearRegression(design=design)
    model = LinearModel(torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64))
    given = torch.full((1, 20_000, 3), 2.0, dtype=torch.float64)
    draws = Draws((0,), "sample", 0, dtype=torch.float64, stacked=True)
    rows = family.sample(model, Conditions(20_000, {"x": given}), draws)
    noise = rows["y"] - (rows["x"] * model.weights).sum(-1)
    assert float(noise.std()) == pytest.approx(0.3, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.01)
    assert torch.equal(rows["x"], given) == (design == "fixed")
    if design == "fresh":
        torch.testing.assert_close(rows["x"][0].T.cov(), torch.eye(3, dtype=torch.float64), atol=0.05, rtol=0)


def test_whole_weights_are_repeated_rows():
    """Also of weight 0, with and without a teacher, whose term does not count repetitions."""
    rows = regression(40)
    times = torch.arange(40) % 3
    weights = (times / times.double().mean()).expand(3, 40)
    own = LinearRegression().solve_weighted(REGRESSION, rows, weights, None, {}, None)
    repeated = {name: column.repeat_interleave(times, dim=1) for name, column in rows.items()}
    torch.testing.assert_close(own.weights, LinearRegression().solve(REGRESSION, repeated, None, {}, None).weights)


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0, 3.0])
def test_distilled_chains_follow_the_formulas_of_the_docs(strength) -> None:
    """docs/theory.md, whose recursions are over scalars; the family's is over coefficients of independent errors."""
    info = Info("regression", {"x": ((10,), "float64"), "y": ((), "float64")}, 30, 30, 10, constants={"noise": 1.0})
    counts, last, c, a = RowCounts(30, 30, 30), 60, 10 / 19, 1 / (1 + strength)

    def theory(strategy, teacher):
        arm = Arm("a", strategy, Teacher(generation=teacher, weights={"output": strength}))
        return LinearRegression(design="fixed").theory("excess_test_error", chain_of(arm, counts, last), None, info)

    replaced = [c * (1 + sum(a ** (2 * i) for i in range(1, k + 1))) for k in range(last + 1)]
    assert theory(Replace(), 0) == pytest.approx(replaced)
    if strength >= 0.5:
        assert replaced[-1] == pytest.approx(c + c / (strength * (strength + 2)), rel=1e-6)
    assert theory(Replace(), "previous") == pytest.approx([c * (1 + a * a * k) for k in range(last + 1)])
    accumulated, v = [c], 0.0
    for k in range(1, last + 1):
        v = (1 + a / k) ** 2 * v + c
        accumulated.append(c + a * a * v / (k + 1) ** 2)
    assert theory(Accumulate(), 0) == pytest.approx(accumulated)
    assert max(accumulated) < c * math.pi**2 / 6
    if strength >= 0.5:
        assert accumulated[-1] < accumulated[10] < accumulated[5]  # back to generation 0
